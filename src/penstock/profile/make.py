"""The engine that a name and its options mean."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.engines.emulated.profiled import SimulatedEngine, VirtualClock
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.protocol import ProfiledEngine

ENGINES = ("vllm", "transformers", "llamacpp", "sim")


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine is to be run; each takes what it knows of.

    ``scratch`` is a folder for what is written for it to read. ``from_files`` has random weights
    read from files at every load. ``num_accelerators`` and ``num_threads`` 0 leave it to the
    engine. ``accelerator`` is what the simulated one simulates.
    """

    scratch: Path
    from_files: bool = False
    device: str = ""
    num_accelerators: int = 0
    num_threads: int = 0
    max_step_tokens: int = 2048
    memory_bytes: float | None = None
    memory_fraction: float = 0.9
    eager: bool = False
    seed: int = 0
    accelerator: Accelerator | None = None
    noise: float = 0.01


def make_engine(name: str, architecture: Architecture, clock: Callable[[], float],
                options: EngineOptions) -> ProfiledEngine:
    """The engine of that name. Raises InputError for another name and without its extra."""
    if name == "transformers":
        from penstock.engines.transformers.profiled import TorchEngine

        return TorchEngine(architecture, clock, device=options.device,
                           num_threads=options.num_threads, seed=options.seed,
                           scratch=options.scratch if options.from_files else None,
                           memory_bytes=options.memory_bytes)
    if name == "llamacpp":
        from penstock.engines.llamacpp.profiled import LlamaCppEngine

        return LlamaCppEngine(architecture, clock, scratch=options.scratch,
                              num_threads=options.num_threads or 2,
                              max_step_tokens=options.max_step_tokens, seed=options.seed,
                              memory_bytes=options.memory_bytes)
    if name == "vllm":
        from penstock.engines.vllm.profiled import VllmEngine

        return VllmEngine(architecture, clock, scratch=options.scratch,
                          from_files=options.from_files,
                          num_accelerators=options.num_accelerators,
                          num_threads=options.num_threads,
                          max_step_tokens=options.max_step_tokens,
                          memory_fraction=options.memory_fraction, eager=options.eager,
                          seed=options.seed)
    if name == "sim":
        if options.accelerator is None:
            raise InputError("--engine sim simulates an accelerator; name it with --with "
                             "accelerator=NAME")
        assert isinstance(clock, VirtualClock), "simulated time passes on its own clock"
        return SimulatedEngine(architecture, options.accelerator, options.num_accelerators or 8,
                               clock, Random(options.seed), options.noise)
    raise InputError(f"--engine {name[:40]!r} is unknown{nearest(name, ENGINES)}")
