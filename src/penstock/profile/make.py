"""The engine that a name and its options mean."""

from collections.abc import Callable

from penstock.core.errors import InputError, nearest
from penstock.engines.engine import engine_of
from penstock.perf.profiling.architecture import Architecture
from penstock.perf.profiling.options import EngineOptions
from penstock.perf.profiling.protocol import ProfiledEngine
from penstock.registry.engines import engine_can, engines_for


def check_engine(name: str) -> None:
    """Raises InputError for an engine that cannot be profiled."""
    if not engine_can(name, "profile"):
        raise InputError(f"--engine {name[:40]!r} is unknown"
                         f"{nearest(name[:40], engines_for('profile'))}")


def make_engine(name: str, architecture: Architecture, clock: Callable[[], float],
                options: EngineOptions) -> ProfiledEngine:
    """The engine of that name. Raises InputError for another name and without its extra."""
    check_engine(name)
    make = engine_of(name).profiled
    assert make is not None, "its entry says that it can be profiled"
    return make(architecture, clock, options)
