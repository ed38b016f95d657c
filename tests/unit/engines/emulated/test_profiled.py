"""The engine that is none, and what makes engines."""

import sys
from pathlib import Path
from random import Random

import pytest

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import SimulatedEngine, VirtualClock
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import find_architecture
from penstock.perf.profiling.options import EngineOptions
from penstock.perf.profiling.protocol import OutOfMemoryError, Room
from penstock.perf.step_time.roofline import roofline_step_time
from penstock.profile.make import make_engine
from support.scripted_profiling import ARCHITECTURE

LLAMA = find_architecture("llama-3-8b", load_catalog())
A100 = load_catalog().accelerator("a100-80gb")
ROOM = Room(1, 1, None)


def engine(noise: float = 0.0, seed: int = 0) -> SimulatedEngine:
    return SimulatedEngine(LLAMA, A100, 8, VirtualClock(), Random(seed), noise)


def configuration(num_layers: int = 32, precision: str = "bf16", tensor: int = 1
                  ) -> ModelConfiguration:
    return ModelConfiguration(LLAMA.name, (num_layers,), precision, "bf16", tensor)


def test_times_are_the_models() -> None:
    model = roofline_step_time(LLAMA.cut(2).spec, A100)
    found = engine()
    found.load(configuration(2), ROOM)
    times = found.run(4, 100, 3)
    assert times.first_token_s == pytest.approx(model.seconds(400, 20_000.0, 0, 0))
    assert times.step_s == pytest.approx([model.seconds(0, 0.0, 4, 404),
                                          model.seconds(0, 0.0, 4, 408)])
    assert times.end_s == pytest.approx(times.first_token_s + sum(times.step_s))
    assert times.num_prefill_steps == 1


def test_time_passes_on_its_own_clock() -> None:
    clock = VirtualClock()
    found = SimulatedEngine(LLAMA, A100, 1, clock, Random(0), 0.0)
    found.load(configuration(), ROOM)
    loaded_s = clock()
    assert loaded_s > 2.0
    times = found.run(1, 10, 5)
    assert clock() == pytest.approx(loaded_s + times.end_s)


def test_noise_is_drawn_from_the_seed() -> None:
    def run(seed: int) -> float:
        found = engine(0.1, seed)
        found.load(configuration(), ROOM)
        return found.run(1, 10, 5).end_s

    assert run(1) == run(1) != run(2)


def test_memory_ends() -> None:
    found = engine()
    found.load(configuration(), ROOM)
    before = found.memory().held_bytes
    found.run(16, 1024, 16)
    after = found.memory().held_bytes
    assert before is not None
    assert after is not None
    assert after - before == 16 * 1040 * LLAMA.spec.kv_bytes_per_token("bf16")
    with pytest.raises(OutOfMemoryError, match="GiB of keys and values"):
        found.run(4096, 1024, 16)
    found.unload()
    assert found.memory().held_bytes == 0.0
    with pytest.raises(OutOfMemoryError, match="GiB of weights per accelerator"):
        SimulatedEngine(find_architecture("llama-3-70b", load_catalog()), A100, 8, VirtualClock(),
                        Random(0)).load(configuration(80), ROOM)


def test_it_says_what_it_is() -> None:
    described = engine().describe()
    assert described["simulated"] is True
    assert "no engine was measured" in described["note"]


def test_what_it_cannot_run() -> None:
    with pytest.raises(InputError, match="3 ranks do not divide the 32 attention heads"):
        engine().check(configuration(tensor=3))
    with pytest.raises(InputError, match="'int5' is unknown"):
        engine().check(configuration(precision="int5"))


# -- engines by name ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "library", "said"), [
    ("transformers", "transformers", r"pip install '\.\[transformers\]'"),
    ("vllm", "vllm", r"pip install '\.\[vllm\]'"),
])
def test_an_engine_that_is_not_installed_names_what_brings_it(
        name: str, library: str, said: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    for variable in ("VLLM_ENABLE_V1_MULTIPROCESSING", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS",
                     "VLLM_LOGGING_LEVEL", "VLLM_CPU_OMP_THREADS_BIND"):
        monkeypatch.setenv(variable, "1")
    with pytest.raises(InputError, match=said):
        make_engine(name, ARCHITECTURE, VirtualClock(), EngineOptions(tmp_path))


def test_gguf_files_need_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    made = make_engine("llamacpp", ARCHITECTURE, VirtualClock(), EngineOptions(tmp_path))
    with pytest.raises(InputError, match=r"pip install '\.\[llamacpp\]'"):
        made.prepare(ModelConfiguration("small", (1,), "fp16", "fp16"))


@pytest.mark.parametrize(("precision", "kv_precision", "degrees", "said"), [
    ("int5", "fp16", (1,), "not with llama.cpp; did you mean 'int"),
    ("fp16", "int8", (1,), "kv_precision 'int8': not with llama.cpp"),
    ("fp16", "fp16", (1, 1), "expected 1 of each"),
])
def test_what_llamacpp_cannot_run(tmp_path: Path, precision: str, kv_precision: str,
                                  degrees: tuple[int, ...], said: str) -> None:
    made = make_engine("llamacpp", ARCHITECTURE, VirtualClock(), EngineOptions(tmp_path))
    with pytest.raises(InputError, match=said):
        made.check(ModelConfiguration("small", degrees, precision, kv_precision))


def test_unknown_engines_and_missing_accelerators(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'vllm'"):
        make_engine("vlm", ARCHITECTURE, VirtualClock(), EngineOptions(tmp_path))
    with pytest.raises(InputError, match="expected --with accelerator"):
        make_engine("sim", ARCHITECTURE, VirtualClock(), EngineOptions(tmp_path))
