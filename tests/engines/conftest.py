"""Tests against real engines. They are skipped, with the reason, where an engine is not installed;
``.ci/engines`` installs them."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed; .ci/engines installs it in an environment of its own")
    from vllm_engine import prepare, tiny_model

    prepare()
    return tiny_model(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module, package in (("llama_cpp", "llama-cpp-python"), ("gguf", "gguf")):
        if find_spec(module) is None:
            pytest.skip(f"{package} is not installed; .ci/engines builds it where it is asked to")
    from tiny_gguf import tiny_gguf

    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")
