"""An engine that does as it is told, and what it takes to profile it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.model import ModelSpec
from penstock.engines.emulated.profiled import VirtualClock
from penstock.perf.profiles.points import ModelConfiguration
from penstock.perf.profiling.architecture import Architecture, llama_config
from penstock.perf.profiling.counters import Gpus
from penstock.perf.profiling.protocol import BatchTimes, Memory, OutOfMemoryError, Room
from penstock.profile.measure import Clocks, Effort, Profiler
from penstock.profile.points import Point
from penstock.profile.record import Record, open_record
from penstock.profile.run import Session

SPEC = ModelSpec("small", 8, 64, 4, 2, 16, 128, 512, 2048)
ARCHITECTURE = Architecture(SPEC, llama_config(SPEC))
WHOLE = ModelConfiguration("small", (8,), "fp32", "fp32")


class ScriptedEngine:
    """Takes 10 ms per request, or what ``seconds`` says, and holds up to ``most`` requests."""

    def __init__(self, clock: VirtualClock, most: int = 1000,
                 seconds: Callable[[int, int], float] = lambda batch, _run: 0.01 * batch,
                 files: Sequence[Path] = (), most_layers: int = 1000) -> None:
        self.clock = clock
        self.most = most
        self.most_layers = most_layers
        self.seconds = seconds
        self.files = files
        self.loads: list[ModelConfiguration] = []
        self.unloads = 0
        self.runs: list[int] = []
        self.loaded: ModelConfiguration | None = None
        self.accelerators = 1
        self.on_run: Callable[[int], None] = lambda _batch: None

    def describe(self) -> Mapping[str, Any]:
        return {"engine": "scripted", "device": "cpu"}

    def most_accelerators(self) -> int:
        return self.accelerators

    def check(self, configuration: ModelConfiguration) -> None:
        return None

    def prepare(self, configuration: ModelConfiguration) -> Sequence[Path]:
        return self.files

    def load(self, configuration: ModelConfiguration, room: Room) -> None:
        assert self.loaded is None
        self.loads.append(configuration)
        self.clock.sleep(1.0)
        if configuration.num_layers > self.most_layers:
            raise OutOfMemoryError("too many layers")
        self.loaded = configuration

    def unload(self) -> None:
        self.unloads += self.loaded is not None
        self.loaded = None

    def run(self, batch: int, prompt_tokens: int, output_tokens: int) -> BatchTimes:
        assert self.loaded is not None
        self.on_run(batch)
        if batch > self.most:
            raise OutOfMemoryError(f"no room for {batch}")
        self.runs.append(batch)
        seconds = self.seconds(batch, len(self.runs))
        self.clock.sleep(seconds)
        steps = tuple([0.1 * seconds / (output_tokens - 1)] * (output_tokens - 1)
                      if output_tokens > 1 else [])
        return BatchTimes(seconds - sum(steps), seconds, steps, 1)

    def memory(self) -> Memory:
        return Memory(0.0 if self.loaded is None else 1000.0 * self.loaded.num_layers, 2000.0, 64)


def clocks(clock: VirtualClock) -> Clocks:
    """All of them the virtual one, on 21 November 2026."""
    return Clocks(clock, clock.sleep, clock, lambda: 1_795_000_000.0 + clock())


def record(folder: Path, kind: str = "model") -> Record:
    """The record of a folder, new or gone on with."""
    return open_record(folder, kind, {"engine": "scripted", "simulated": False}, {"host": "here"},
                       {}, {}, "now")


def profiler(folder: Path, engine: ScriptedEngine, effort: Effort = Effort(), **more: Any  # noqa: B008
             ) -> Profiler:
    """A profiler over a folder."""
    return Profiler(engine, record(folder), effort, clocks(engine.clock), Gpus(), **more)


def session(folder: Path, engine: ScriptedEngine, **changes: Any) -> Session:
    """A session that only the script decides of."""
    return Session(ARCHITECTURE, engine, folder, clocks=clocks(engine.clock), **changes)


def point(batch: int = 1, prompt_tokens: int = 8, output_tokens: int = 3,
          configuration: ModelConfiguration = WHOLE) -> Point:
    return Point(configuration, batch, prompt_tokens, output_tokens)
