"""transformers profiled, which vLLM brings with it."""

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

from penstock.core.errors import InputError
from penstock.engines.transformers import profiled as torch_model
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.checkpoint import random_checkpoint
from penstock.perf.profiling.protocol import OutOfMemoryError, Room

pytestmark = [
    pytest.mark.skipif(find_spec("transformers") is None or find_spec("torch") is None,
                       reason="transformers is not installed; .ci/engines installs it with vLLM"),
    pytest.mark.filterwarnings("default")]


def test_a_model(tmp_path: Path) -> None:
    check_model(engine("transformers", tmp_path / "s", device="cpu"), tmp_path / "p")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fingerprints(tmp_path: Path, precision: str) -> None:
    check_fingerprint(engine("transformers", tmp_path / "s", device="cpu"), tmp_path / "p",
                      (precision, precision))


def test_batches_up_to_a_limit_on_memory(tmp_path: Path) -> None:
    used = torch_model.process_memory_bytes()
    found = engine("transformers", tmp_path / "s", device="cpu", memory_bytes=used + 100e6)
    reasons = check_batches(found, tmp_path / "p", None, 4096, prompt_tokens=100)
    assert all("are left (not tried)" in reason for reason in reasons)


def test_an_allocation_that_fails_is_out_of_memory(tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_model, "available_memory_bytes", lambda: None)
    found = engine("transformers", tmp_path / "s", device="cpu")
    found.load(WHOLE, Room(1, 1, 1))
    with pytest.raises(OutOfMemoryError, match="allocate"):
        found.run(1_000_000_000, 1000, 1)  # eight terabytes of token ids alone
    found.unload()


def test_loads(tmp_path: Path) -> None:
    check_loads(engine("transformers", tmp_path / "s", device="cpu", from_files=True),
                tmp_path / "p")


def test_a_checkpoint_is_read_and_its_cuts_are_drawn(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    random_checkpoint(ARCHITECTURE, "fp32", 0, folder)
    found = engine("transformers", tmp_path / "s", replace(ARCHITECTURE, weights=folder),
                   device="cpu")
    assert [path.name for path in found.prepare(WHOLE)] == ["model.safetensors"]
    assert found.prepare(replace(WHOLE, layers_by_stage=(1,))) == ()
    for layers in (4, 1):
        found.load(replace(WHOLE, layers_by_stage=(layers,)), Room(1, 9, None))
        assert len(found.run(1, 6, 3).step_s) == 2
        found.unload()


def test_what_it_cannot_run(tmp_path: Path) -> None:
    found = engine("transformers", tmp_path / "s", device="cpu")
    for configuration, said in (
            (ModelConfiguration("tiny", (4,), "int8", "int8"), "not with transformers"),
            (ModelConfiguration("tiny", (4,), "fp32", "fp16"), "keeps keys and values"),
            (ModelConfiguration("tiny", (2, 2), "fp32", "fp32"), "one device")):
        with pytest.raises(InputError, match=said):
            found.check(configuration)
    with pytest.raises(InputError, match="torch has no such device"):
        engine("transformers", tmp_path / "s", device="tpu")
    broken = replace(ARCHITECTURE, config={**ARCHITECTURE.config, "model_type": "no-such"})
    with pytest.raises(InputError, match="transformers cannot build it"):
        engine("transformers", tmp_path / "s", broken, device="cpu").load(WHOLE, Room(1, 9, None))
