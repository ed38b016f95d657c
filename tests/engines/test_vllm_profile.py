"""vLLM profiled in this process: dummy weights, cuts, batches up to a full KV cache, loads."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from profiling import (
    ARCHITECTURE,
    WHOLE,
    check_batches,
    check_fingerprint,
    check_loads,
    check_model,
    engine,
)
from vllm_engine import prepare

from penstock.core.errors import InputError
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.protocol import OutOfMemoryError, Room

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None,
                       reason="vLLM is not installed; .ci/engines installs it in an environment "
                              "of its own"),
    pytest.mark.filterwarnings("default")]  # vLLM and torch have warnings of their own


@pytest.fixture(autouse=True)
def _prepared() -> None:
    prepare()


def test_a_model(tmp_path: Path) -> None:
    check_model(engine("vllm", tmp_path / "s"), tmp_path / "p")


def test_fingerprints(tmp_path: Path) -> None:
    check_fingerprint(engine("vllm", tmp_path / "s"), tmp_path / "p", ("fp32", "fp32"))


def test_batches_up_to_a_full_cache(tmp_path: Path) -> None:
    reasons = check_batches(engine("vllm", tmp_path / "s"), tmp_path / "p", 1000, 128)
    assert all("the KV cache holds" in reason for reason in reasons)


def test_loads(tmp_path: Path) -> None:
    check_loads(engine("vllm", tmp_path / "s", from_files=True), tmp_path / "p")


def test_a_load_that_fails_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    found = engine("vllm", tmp_path / "s")
    with pytest.raises(OutOfMemoryError):
        found.load(WHOLE, Room(2, 60, 10**10))
    found.unload()
    found.load(WHOLE, Room(2, 60, 120))
    assert found.run(2, 8, 2).end_s > 0.0
    found.unload()
    found.unload()


def test_prompts_longer_than_a_step_take_several(tmp_path: Path) -> None:
    found = engine("vllm", tmp_path / "s", max_step_tokens=32)
    found.load(WHOLE, Room(2, 60, 120))
    try:
        times = found.run(2, 50, 3)
    finally:
        found.unload()
    assert times.num_prefill_steps == 4
    assert times.first_token_s < times.end_s


def test_smaller_weights_are_those_that_the_config_tells_of(tmp_path: Path) -> None:
    config = {**ARCHITECTURE.config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    found = engine("vllm", tmp_path / "s", replace(ARCHITECTURE, config=config))
    found.check(ModelConfiguration("tiny", (4,), "int4_gptq", "fp16"))
    with pytest.raises(InputError, match="vLLM keeps bf16 or fp16 or fp8"):
        found.check(ModelConfiguration("tiny", (4,), "int4_gptq", "fp32"))


@pytest.mark.parametrize(("configuration", "said"), [
    (ModelConfiguration("tiny", (4,), "int4", "fp16"), "precision 'int4': not with vLLM"),
    (ModelConfiguration("tiny", (4,), "fp32", "int4"), "kv_precision 'int4': not with vLLM"),
    (ModelConfiguration("tiny", (4,), "fp32", "fp16"), "vLLM keeps fp32 or fp8"),
    (ModelConfiguration("tiny", (2, 2), "fp32", "fp32"), "accelerators are here")])
def test_what_it_cannot_run(tmp_path: Path, configuration: ModelConfiguration, said: str) -> None:
    with pytest.raises(InputError, match=said):
        engine("vllm", tmp_path / "s").check(configuration)
