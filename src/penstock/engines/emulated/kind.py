"""The simulated engine that can be profiled on a clock of its own."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from penstock.core.errors import InputError
from penstock.engines.engine import Engine
from penstock.perf.profiling.options import EngineOptions

if TYPE_CHECKING:
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.protocol import ProfiledEngine


def _profiled(architecture: "Architecture", clock: Callable[[], float],
              options: EngineOptions) -> "ProfiledEngine":
    from penstock.engines.emulated.profiled import SimulatedEngine, VirtualClock

    if options.accelerator is None:
        raise InputError("--engine sim simulates an accelerator; name it with --with "
                         "accelerator=NAME")
    assert isinstance(clock, VirtualClock), "simulated time passes on its own clock"
    return SimulatedEngine(architecture, options.accelerator, options.num_accelerators or 8, clock,
                           Random(options.seed), options.noise)


def engine() -> Engine:
    """The simulated engine."""
    return Engine(profiled=_profiled)
