"""Which model is meant, and its cuts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.catalog.catalog import load_catalog
from penstock.catalog.hf_config import model_from_hf_config
from penstock.core.errors import InputError
from penstock.perf.profiling.architecture import Architecture, find_architecture, llama_config
from support.scripted_profiling import ARCHITECTURE, SPEC


@pytest.mark.parametrize("name", ["llama-3-8b", "llama-2-70b", "mixtral-8x7b"])
def test_a_model_of_the_catalog_comes_back_from_its_config(name: str) -> None:
    spec = load_catalog().model(name)
    found = find_architecture(name, load_catalog())
    assert found.weights is None
    again = model_from_hf_config(found.config, name)
    assert again.num_params == spec.num_params
    assert again.kv_bytes_per_token("bf16") == spec.kv_bytes_per_token("bf16")
    assert again.max_context_tokens == spec.max_context_tokens


def test_a_shape_that_no_config_of_ours_has_is_refused() -> None:
    with pytest.raises(InputError, match=r"give the path of its config\.json"):
        llama_config(replace(SPEC, kv_latent_size=512))


def test_a_cut_has_the_first_layers_and_all_else() -> None:
    cut = ARCHITECTURE.cut(2)
    assert cut.spec == replace(SPEC, num_layers=2)
    assert cut.config["num_hidden_layers"] == 2
    assert cut.spec.embedding_params == SPEC.embedding_params
    assert ARCHITECTURE.cut(8) is ARCHITECTURE
    for wrong in (0, 9):
        with pytest.raises(InputError, match=f"{wrong} layers; it has 8"):
            ARCHITECTURE.cut(wrong)


def test_a_cut_keeps_as_many_kinds_of_layers() -> None:
    kinds = ["full_attention", "linear_attention"] * 4
    whole = Architecture(SPEC, {**ARCHITECTURE.config, "layer_types": kinds})
    assert whole.cut(3).config["layer_types"] == kinds[:3]


def test_a_config_and_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(ARCHITECTURE.config)))
    for named in (folder, folder / "config.json"):
        found = find_architecture(str(named), load_catalog())
        assert (found.name, found.weights) == ("tiny", None)
        assert found.config["hidden_size"] == 64
    (folder / "model.safetensors").write_bytes(b"")
    found = find_architecture(str(folder), load_catalog())
    assert found.weights == folder
    assert found.cut(1).weights is None


@pytest.mark.parametrize(("name", "said"), [
    ("lama-3-8b", "did you mean 'llama-3-8b'"), ("./absent.json", "cannot be read"),
    ("./absent.gguf", "no such file; expected a model in GGUF format")])
def test_what_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
                          said: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        find_architecture(name, load_catalog())


def test_a_gguf_file_is_not_cut(tmp_path: Path) -> None:
    whole = Architecture(SPEC, {}, tmp_path / "model.gguf")
    assert whole.is_gguf
    assert whole.cut(8) is whole
    with pytest.raises(InputError, match="cannot be cut to 2 layers"):
        whole.cut(2)
