"""Transformers as an engine: a model in this process, for measurements only."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from penstock.engines.engine import Engine
from penstock.perf.profiling.options import EngineOptions

if TYPE_CHECKING:
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.protocol import ProfiledEngine


def _profiled(architecture: "Architecture", clock: Callable[[], float],
              options: EngineOptions) -> "ProfiledEngine":
    from penstock.engines.transformers.profiled import TorchEngine

    return TorchEngine(architecture, clock, device=options.device, num_threads=options.num_threads,
                       seed=options.seed, scratch=options.scratch if options.from_files else None,
                       memory_bytes=options.memory_bytes)


def engine() -> Engine:
    """Return the engine for transformers on PyTorch."""
    return Engine(profiled=_profiled)
