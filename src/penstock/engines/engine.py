"""The contract of an engine: a folder in ``engines/`` and an entry in ``registry/engines.py``."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.engines.client.connectors import Connector
from penstock.engines.client.dialects import Dialect, OpenAiDialect
from penstock.engines.client.metrics_text import EngineLoad, read_load
from penstock.engines.client.state import EngineState
from penstock.fleet.values import Fleet
from penstock.fleet.values_adapters import Adapter
from penstock.fleet.values_multiplexing import DevicePool, SwapEngine, SwappedModel
from penstock.registry.engines import ENGINES

if TYPE_CHECKING:
    import aiohttp

    from penstock.engines.actuators.protocol import Actuator
    from penstock.perf.profiling.architecture import Architecture
    from penstock.perf.profiling.options import EngineOptions
    from penstock.perf.profiling.protocol import ProfiledEngine

SESSION_HEADER = "X-Penstock-Session"
"""Header of a request's session, in the gateway's API and in that of Penstock's own engines."""

Get = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Gets a URL; returns status and body."""


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """Environment in which engines are started. Processes have their logs in ``folder``, which is
    created, and run in its parent folder. ``note`` gets messages for operators.
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
    around: EngineEnvironment

    @property
    def name(self) -> str:
        """The engine's name for the model."""
        return self.engine.served_as or self.model.spec.name

    @property
    def url(self) -> str:
        """The URL of this device's engine."""
        return self.engine.endpoints[self.device]


async def look_at_openai(get: Get, url: str, _model: str, *, metrics: str = "/metrics"
                         ) -> tuple[bool, EngineLoad]:
    """Return whether a server with OpenAI's API is healthy, and its load by the path of its
    metrics."""
    status, _ = await get(f"{url}/health")
    if status in (404, 405, 501):  # some have no health endpoint, but all list their models
        status, _ = await get(f"{url}/v1/models")
    if status != 200:
        return False, EngineLoad()
    status, text = await get(f"{url}{metrics}")
    return True, read_load(text) if status == 200 else EngineLoad()


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of engine: how it is called, observed, loaded, unloaded and measured.

    ``look(get, url, model)`` returns whether the server is healthy, and its load. ``actuator`` is
    None where Penstock cannot load models, ``profiled`` where it cannot measure.
    ``while_multiplexed`` has fields that are added to every request to a multiplexed model.
    ``connector`` is how two of them share a request, None where they cannot. ``called_as`` is the
    kind whose dialect is used, for an engine that is only a way to load models; empty for the
    engine's own. ``session_header`` is the header of a request's session. ``prefixes_adapters`` is
    whether a request for an adapter names the model before it, as in ``model:adapter``.
    """

    dialect: Dialect = field(default_factory=lambda: OpenAiDialect(tells_class=False))
    look: Callable[[Get, str, str], Awaitable[tuple[bool, EngineLoad]]] = look_at_openai
    actuator: "Callable[[ActuatorContext], Actuator] | None" = None
    profiled: ("Callable[[Architecture, Callable[[], float], EngineOptions], ProfiledEngine]"
               " | None") = None
    while_multiplexed: Mapping[str, Any] = field(default_factory=dict)
    called_as: str = ""
    connector: Connector | None = None
    session_header: str = SESSION_HEADER
    prefixes_adapters: bool = False


@cache
def engine_of(kind: str) -> Engine:
    """Return the engine of that kind. Raises InputError for an unknown kind."""
    made: Engine = ENGINES.load(kind)()
    return made


def name_in_requests(engine: EngineState, adapter: Adapter | None) -> str:
    """Return the engine's name for its model, or for an adapter of the model, in requests."""
    model = engine.facts.served_as or engine.facts.model
    if adapter is None:
        return model
    prefixes = engine_of(engine.kind).prefixes_adapters
    return f"{model}:{adapter.served_name}" if prefixes else adapter.served_name
