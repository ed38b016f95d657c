"""llama.cpp profiled: files of random weights, cuts, batches up to a full cache."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from profiling import (
    SPEC,
    check_batches,
    check_fingerprint,
    check_loads,
    check_model,
    engine,
    session,
)

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiles.summary import profiled_runs
from penstock.perf.profiling.architecture import find_architecture
from penstock.perf.profiling.gguf_file import gguf_shape, write_random_gguf
from penstock.perf.profiling.protocol import Room
from penstock.profile.run import profile_model

pytestmark = pytest.mark.skipif(
    find_spec("llama_cpp") is None or find_spec("gguf") is None,
    reason="llama-cpp-python and gguf are not installed; .ci/engines builds them where asked to")


def test_a_model(tmp_path: Path) -> None:
    check_model(engine("llamacpp", tmp_path / "s"), tmp_path / "p")


@pytest.mark.parametrize("precision", ["fp32", "int8", "int4"])
def test_fingerprints(tmp_path: Path, precision: str) -> None:
    check_fingerprint(engine("llamacpp", tmp_path / "s"), tmp_path / "p", (precision, "fp16"))


def test_batches_up_to_a_full_cache(tmp_path: Path) -> None:
    reasons = check_batches(engine("llamacpp", tmp_path / "s"), tmp_path / "p", 1000, 64)
    assert all("the cache holds" in reason for reason in reasons)


def test_loads(tmp_path: Path) -> None:
    check_loads(engine("llamacpp", tmp_path / "s"), tmp_path / "p")


def test_more_than_the_memory_is_not_tried(tmp_path: Path) -> None:
    found = engine("llamacpp", tmp_path / "s", memory_bytes=1.0)
    made = profile_model(session(found, tmp_path / "p"),
                         ModelConfiguration("tiny", (4,), "fp16", "fp16"), [8], [1], 2)
    (row,) = made.measurements
    assert row.outcome == "out_of_memory"
    assert "(not tried)" in row.reason


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int4"])
def test_a_file_of_random_weights_has_the_shape_that_was_asked(tmp_path: Path, precision: str
                                                               ) -> None:
    path = tmp_path / "tiny.gguf"
    write_random_gguf(path, SPEC, precision)
    shape = gguf_shape(path)
    for name in ("name", "num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim",
                 "intermediate_size", "vocab_size", "max_context_tokens", "tied_embeddings",
                 "num_params"):
        assert getattr(shape, name) == getattr(SPEC, name), name
    found = find_architecture(str(path), load_catalog())
    device = engine("llamacpp", tmp_path / "s", found)
    whole = ModelConfiguration("tiny", (4,), "gguf", "fp16")
    assert device.prepare(whole) == (path,)
    device.load(whole, Room(2, 20, 40))
    assert device.run(2, 8, 4).end_s > 0.0
    device.unload()
    with pytest.raises(InputError, match="a GGUF file has its own"):
        device.check(ModelConfiguration("tiny", (4,), "fp32", "fp16"))


def test_prompts_longer_than_a_step_take_several(tmp_path: Path) -> None:
    found = engine("llamacpp", tmp_path / "s", max_step_tokens=32)
    found.load(ModelConfiguration("tiny", (1,), "fp32", "fp16"), Room(2, 60, 120))
    times = found.run(2, 50, 3)
    assert times.num_prefill_steps == 4
    assert len(times.step_s) == 2
    found.unload()


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF and no more")
    with pytest.raises(InputError, match="is not a model in GGUF format"):
        gguf_shape(path)


def test_runs_become_latencies(tmp_path: Path) -> None:
    found = engine("llamacpp", tmp_path / "s")
    made = profile_model(session(found, tmp_path / "p"),
                         ModelConfiguration("tiny", (4,), "int8", "fp16"), [8], [1, 2], 3)
    runs = profiled_runs(read_profile(made.folder))
    assert [(run.batch, run.layers_by_stage, run.precision) for run in sorted(
        runs, key=lambda run: run.batch)] == [(1, (4,), "int8"), (2, (4,), "int8")]
