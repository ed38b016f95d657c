"""Every axis of choice, for listings."""

from collections.abc import Iterator
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.registry import commands, engines, sources, step_times
from penstock.registry.axis import Axis
from penstock.registry.policies import (
    ADMISSIONS,
    MULTIPLEXERS,
    PLACERS,
    ROUTERS,
    SCALERS,
    SCHEDULES,
)

AXES: tuple[Axis, ...] = (SCHEDULES, ROUTERS, ADMISSIONS, SCALERS, MULTIPLEXERS, PLACERS,
                          engines.ENGINES, step_times.STEP_TIMES, sources.TRACES, sources.PROFILES,
                          sources.SYSTEMS, commands.PLUGGED_IN)


class Listed(NamedTuple):
    """A name that can be chosen. ``plug_in`` is empty for a built-in one; ``problem`` says why a
    plug-in cannot be used."""

    axis: str
    name: str
    settings: tuple[str, ...]
    plug_in: str = ""
    problem: str = ""


def listed() -> Iterator[Listed]:
    """Yield everything that can be chosen, by axis."""
    for axis in AXES:
        for name in axis.all_names():
            try:
                entry = axis.entry(name)
            except InputError as error:
                yield Listed(axis.kind, name, (), "broken", str(error))
            else:
                yield Listed(axis.kind, name, tuple(entry.settings), entry.plug_in)
