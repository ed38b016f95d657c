"""The simulated engine, which is profiled on a virtual clock."""

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
        raise InputError("--engine sim: found no accelerator to simulate; expected --with "
                         "accelerator=NAME")
    assert isinstance(clock, VirtualClock), "simulated time needs a virtual clock"
    return SimulatedEngine(architecture, options.accelerator, options.num_accelerators or 8, clock,
                           Random(options.seed), options.noise)


def engine() -> Engine:
    """Return the simulated engine."""
    return Engine(profiled=_profiled)
