"""How vLLM is driven, on a stand-in for it: one that plans steps as it does. ``tests/engines`` has
the real one."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import orjson
import pytest

from penstock.core.errors import InputError
from penstock.engines.emulated.profiled import VirtualClock
from penstock.engines.vllm.profiled import VllmEngine
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.protocol import OutOfMemoryError, Room
from support.scripted_profiling import ARCHITECTURE, WHOLE

ROOM = Room(4, 40, 160)


@dataclass
class FakeRequest:
    name: str
    prompt: list[int]
    max_tokens: int
    read: int = 0
    tokens: list[int] = field(default_factory=list)


class FakeLlm:
    """Reads prompts in pieces of a token budget, then gives each request a token a step."""

    made: ClassVar[list["FakeLlm"]] = []
    refusal: ClassVar[Exception | None] = None
    looks_ahead: ClassVar[bool] = False

    def __init__(self, arguments: SimpleNamespace) -> None:
        if FakeLlm.refusal is not None:
            raise FakeLlm.refusal
        self.arguments = arguments
        self.clock: VirtualClock = FakeLlm.clock  # type: ignore[attr-defined]
        self.requests: list[FakeRequest] = []
        self.closed = False
        self.failure: Exception | None = None
        blocks = getattr(arguments, "num_gpu_blocks_override", None) or 101
        self.vllm_config = SimpleNamespace(cache_config=SimpleNamespace(
            num_gpu_blocks=blocks, block_size=getattr(arguments, "block_size", 16)))
        queue = object() if FakeLlm.looks_ahead else None
        self.engine_core = SimpleNamespace(engine_core=SimpleNamespace(batch_queue=queue),
                                           shutdown=self.shutdown)
        FakeLlm.made.append(self)

    @classmethod
    def from_engine_args(cls, arguments: SimpleNamespace) -> "FakeLlm":
        return cls(arguments)

    def shutdown(self) -> None:
        self.closed = True

    def add_request(self, name: str, prompt: dict[str, list[int]], wanted: SimpleNamespace) -> None:
        self.requests.append(FakeRequest(name, prompt["prompt_token_ids"], wanted.max_tokens))

    def has_unfinished_requests(self) -> bool:
        return bool(self.requests)

    def step(self) -> Sequence[SimpleNamespace]:
        if self.failure is not None:
            raise self.failure
        self.clock.sleep(1.0)
        left = self.arguments.max_num_batched_tokens
        outputs = []
        for request in list(self.requests):
            if request.read < len(request.prompt):
                piece = min(left, len(request.prompt) - request.read)
                request.read += piece
                left -= piece
                if request.read < len(request.prompt):
                    continue
            request.tokens.append(0)
            outputs.append(SimpleNamespace(
                # vLLM adds letters of its own to names.
                request_id=f"{request.name}-ab12",
                outputs=[SimpleNamespace(token_ids=list(request.tokens))]))
            if len(request.tokens) == request.max_tokens:
                self.requests.remove(request)
        return outputs


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> VirtualClock:
    """vLLM's and torch's places are taken; the clock is that of the stand-in's steps."""
    found = VirtualClock()
    monkeypatch.setattr(FakeLlm, "clock", found, raising=False)
    monkeypatch.setattr(FakeLlm, "made", [])
    monkeypatch.setattr(FakeLlm, "refusal", None)
    monkeypatch.setattr(FakeLlm, "looks_ahead", False)
    cleaned: list[int] = []
    modules = {name: ModuleType(name) for name in (
        "vllm", "vllm.distributed", "vllm.distributed.parallel_state", "vllm.engine",
        "vllm.engine.arg_utils", "vllm.v1", "vllm.v1.engine", "vllm.v1.engine.llm_engine")}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    modules["vllm"].SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    modules["vllm.engine.arg_utils"].EngineArgs = SimpleNamespace  # type: ignore[attr-defined]
    modules["vllm.v1.engine.llm_engine"].LLMEngine = FakeLlm  # type: ignore[attr-defined]
    modules["vllm.distributed.parallel_state"].cleanup_dist_env_and_memory = (  # type: ignore[attr-defined]
        lambda: cleaned.append(1))
    torch: Any = ModuleType("torch")
    torch.cuda = SimpleNamespace(is_available=lambda: False,
                                 OutOfMemoryError=type("OutOfMemoryError", (RuntimeError,), {}))
    torch.get_num_threads = lambda: 2
    torch.set_num_threads = lambda number: None
    monkeypatch.setitem(sys.modules, "torch", torch)
    for name in ("VLLM_ENABLE_V1_MULTIPROCESSING", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS",
                 "VLLM_LOGGING_LEVEL", "VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "0")
    return found


def engine(clock: VirtualClock, scratch: Path, architecture: Architecture = ARCHITECTURE,
           **options: Any) -> VllmEngine:
    return VllmEngine(architecture, clock, **{"scratch": scratch, "from_files": False, **options})


def test_steps_become_times(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.load(WHOLE, ROOM)
    times = found.run(3, 8, 5)
    assert (times.first_token_s, times.end_s, times.num_prefill_steps) == (1.0, 5.0, 1)
    assert times.step_s == (1.0,) * 4
    assert found.run(1, 8, 2).end_s == 2.0  # and the next batch begins at 0 again


def test_prompts_in_pieces(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path, max_step_tokens=16)
    found.load(WHOLE, ROOM)
    times = found.run(2, 20, 3)
    # 16 tokens of the first, then 4 and 12, then the other's last 8 beside a decode.
    assert (times.first_token_s, times.num_prefill_steps) == (3.0, 3)
    assert times.end_s == 5.0


def test_an_engine_that_plans_ahead_does_not_show_its_steps(
        clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLlm, "looks_ahead", True)
    found = engine(clock, tmp_path, max_step_tokens=16)
    found.load(WHOLE, ROOM)
    times = found.run(2, 20, 3)
    assert times.num_prefill_steps is None
    assert (times.first_token_s, times.end_s) == (3.0, 5.0)


def test_prompts_that_fit_into_one_step_are_one_step_of_an_engine_that_plans_ahead(
        clock: VirtualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLlm, "looks_ahead", True)
    found = engine(clock, tmp_path, max_step_tokens=40)
    found.load(WHOLE, ROOM)
    assert found.run(2, 20, 3).num_prefill_steps == 1
    assert found.run(3, 20, 3).num_prefill_steps is None


def test_what_it_is_loaded_with(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path, seed=7)
    found.load(ModelConfiguration("small", (2,), "fp32", "fp32"), ROOM)
    arguments = FakeLlm.made[0].arguments
    config = orjson.loads((Path(arguments.model) / "config.json").read_bytes())
    assert config["num_hidden_layers"] == 2
    assert (arguments.load_format, arguments.dtype, arguments.seed) == ("dummy", "float32", 7)
    assert (arguments.max_num_seqs, arguments.max_model_len) == (4, 41)
    assert not arguments.enable_prefix_caching
    assert arguments.enforce_eager
    blocks = arguments.num_gpu_blocks_override
    assert blocks * arguments.block_size >= 160 + 4
    assert found.memory().kv_tokens == (blocks - 1) * arguments.block_size


def test_a_batch_that_would_wait_for_room_is_out_of_memory(clock: VirtualClock,
                                                           tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.load(WHOLE, ROOM)
    with pytest.raises(OutOfMemoryError, match="5 sequences; the engine was loaded for 4"):
        found.run(5, 8, 2)
    with pytest.raises(OutOfMemoryError, match="the KV cache holds"):
        found.run(4, 200, 10)
    assert found.run(4, 30, 10).end_s == 10.0


@pytest.mark.parametrize("text", [
    "CUDA out of memory", "No available memory for the cache blocks",
    "is less than requested memory for kv", "To serve, 3 GiB KV cache is needed"])
def test_want_of_memory_is_told_from_other_faults(clock: VirtualClock, tmp_path: Path, text: str,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    found = engine(clock, tmp_path)
    monkeypatch.setattr(FakeLlm, "refusal", ValueError(text))
    with pytest.raises(OutOfMemoryError):
        found.load(WHOLE, ROOM)
    monkeypatch.setattr(FakeLlm, "refusal", ValueError("no such kernel"))
    with pytest.raises(ValueError, match="no such kernel"):
        found.load(WHOLE, ROOM)
    monkeypatch.setattr(FakeLlm, "refusal", None)
    found.unload()
    found.load(WHOLE, ROOM)
    FakeLlm.made[-1].failure = RuntimeError(text)
    with pytest.raises(OutOfMemoryError):
        found.run(1, 8, 2)


def test_unloading_closes_it_and_is_harmless_twice(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path)
    found.unload()
    found.load(WHOLE, ROOM)
    found.unload()
    found.unload()
    assert FakeLlm.made[0].closed
    assert found.memory().kv_tokens is None


def test_it_says_what_it_is(clock: VirtualClock, tmp_path: Path) -> None:
    described = engine(clock, tmp_path, num_threads=1).describe()
    assert (described["engine"], described["device"], described["num_threads"]) == (
        "vllm", "cpu", 1)
    assert described["weights"] == "dummy"


@pytest.mark.parametrize(("configuration", "said"), [
    (ModelConfiguration("small", (8,), "int4", "bf16"), "precision 'int4': not with vLLM"),
    (ModelConfiguration("small", (8,), "fp8", "fp16"), "vLLM keeps bf16 or fp8"),
    (ModelConfiguration("small", (8,), "fp32", "fp32", 2), "1 accelerators are here"),
    (ModelConfiguration("small", (8,), "fp32", "fp32", 3), "accelerators are here"),
])
def test_what_it_cannot_run(clock: VirtualClock, tmp_path: Path,
                            configuration: ModelConfiguration, said: str) -> None:
    with pytest.raises(InputError, match=said):
        engine(clock, tmp_path).check(configuration)


def test_parallel_on_a_cpu(clock: VirtualClock, tmp_path: Path) -> None:
    found = engine(clock, tmp_path, num_accelerators=4)
    found.check(ModelConfiguration("small", (8,), "fp32", "fp32", 2))
    with pytest.raises(InputError, match="3 ranks do not divide the 4 attention heads of small"):
        found.check(ModelConfiguration("small", (8,), "fp32", "fp32", 3))
    with pytest.raises(InputError, match="second stage fails on a CPU"):
        found.check(ModelConfiguration("small", (4, 4), "fp32", "fp32"))
