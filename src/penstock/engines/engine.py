"""The contract of an engine: a folder in ``engines/`` and an entry in ``registry/engines.py``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.engines.client.dialects import Dialect, OpenAiDialect
from penstock.engines.client.metrics_text import EngineLoad, read_load
from penstock.fleet.values import Fleet
from penstock.fleet.values_multiplexing import DevicePool, SwapEngine, SwappedModel
from penstock.registry.engines import ENGINES

if TYPE_CHECKING:
    import aiohttp

    from penstock.engines.actuators.protocol import Actuator
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.options import EngineOptions
    from penstock.perf.profiling.protocol import ProfiledEngine

Get = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Asks a URL: status and body."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The place in which engines are begun. Those that are processes have their logs in ``folder``,
    which is made, and run in the folder around it. ``note`` is told what an operator should know.
    """

    session: "aiohttp.ClientSession"
    folder: Path
    loop: asyncio.AbstractEventLoop
    note: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ActuatorContext:
    """A model of a pool, on one of its devices."""

    fleet: Fleet
    pool: DevicePool
    model: SwappedModel
    engine: SwapEngine
    device: int
    around: Surroundings

    @property
    def name(self) -> str:
        """The engine's name for the model."""
        return self.engine.served_as or self.model.spec.name

    @property
    def url(self) -> str:
        """Where the engine of this device answers."""
        return self.engine.endpoints[self.device]


async def look_at_openai(get: Get, url: str, _model: str) -> tuple[bool, EngineLoad]:
    """Whether a server of OpenAI's API is well, and how busy by its metrics."""
    status, _ = await get(f"{url}/health")
    if status in (404, 405, 501):  # some know of no health, but all tell their models
        status, _ = await get(f"{url}/v1/models")
    if status != 200:
        return False, EngineLoad()
    status, text = await get(f"{url}/metrics")
    return True, read_load(text) if status == 200 else EngineLoad()


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of engine: how it is called, watched, loaded and unloaded, and measured.

    ``look(get, url, model)`` answers whether the server is well and how busy. ``actuator`` and
    ``profiled`` are None where Penstock cannot load models, or measure. ``while_multiplexed`` goes
    with every request to a model that shares devices. ``called_as`` is the kind by which an engine
    is called that itself is only a way to load; empty for its own.
    """

    dialect: Dialect = field(default_factory=lambda: OpenAiDialect(tells_class=False))
    look: Callable[[Get, str, str], Awaitable[tuple[bool, EngineLoad]]] = look_at_openai
    actuator: "Callable[[ActuatorContext], Actuator] | None" = None
    profiled: ("Callable[[Architecture, Callable[[], float], EngineOptions], ProfiledEngine]"
               " | None") = None
    while_multiplexed: Mapping[str, Any] = field(default_factory=dict)
    called_as: str = ""


@cache
def engine_of(kind: str) -> Engine:
    """The engine of that kind. Raises InputError for an unknown one."""
    made: Engine = ENGINES.load(kind)()
    return made
