"""Opens the control loop with its sources, and runs it beside its server."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from penstock.engines.http import listening, stop_signal
from penstock.engines.tls import ServerTls
from penstock.published.inferno.cluster.cycle_log import CycleLog
from penstock.published.inferno.cluster.data import ConfigMapData, Data, FolderData
from penstock.published.inferno.cluster.decide import Rules
from penstock.published.inferno.cluster.loop import InfernoLoop
from penstock.published.inferno.cluster.series import Series
from penstock.published.inferno.cluster.server import make_app
from penstock.serving.kubernetes.api import Cluster
from penstock.serving.scaling.prometheus import Prometheus
from penstock.serving.scaling.tokens import PROMETHEUS_TOKEN, bearer

_SHUTDOWN_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Choices of the operator. ``folder`` holds the data in the place of ConfigMaps; without
    ``prometheus`` labels state the loads; a ``period_s`` of 0 runs cycles on demand only."""

    rules: Rules
    period_s: float = 60.0
    data_namespace: str = "inferno"
    folder: Path | None = None
    prometheus: str | None = None
    window_s: float = 60.0
    log: CycleLog | None = None
    dynamic: bool = False


@dataclass(frozen=True, slots=True)
class Listening:
    """Address of the server, and the names by which clients reach it besides."""

    host: str
    port: int
    names: Sequence[str] = ()
    tls: ServerTls | None = None


async def control(cluster: Cluster, settings: Settings, address: Listening,
                  note: Callable[[str], None]) -> None:
    """Run the loop and its server until the process is told to stop."""
    stopped = stop_signal()
    try:
        async with aiohttp.ClientSession() as session:
            loop = loop_of(cluster, settings, session, note)
            app = make_app(loop, address.host, note, address.names)
            async with listening(app, address.host, address.port, _SHUTDOWN_S,
                                 tls=address.tls) as url:
                note(f"Inferno's control loop listens on {url}; Ctrl-C stops")
                await _until(stopped, loop, settings.period_s)
    finally:
        await cluster.close()


async def _until(stopped: asyncio.Event, loop: InfernoLoop, period_s: float) -> None:
    """Run cycles until the event is set. Raises what ends the loop before."""
    if not period_s:
        await stopped.wait()
        return
    ended = asyncio.create_task(stopped.wait())
    task = asyncio.create_task(loop.run(period_s))
    await asyncio.wait([task, ended], return_when=asyncio.FIRST_COMPLETED)
    for one in (task, ended):
        one.cancel()
    with suppress(asyncio.CancelledError):
        await task


def loop_of(cluster: Cluster, settings: Settings, session: aiohttp.ClientSession,
            note: Callable[[str], None]) -> InfernoLoop:
    """Return the loop with its sources."""
    data: Data = ConfigMapData(cluster, settings.data_namespace) if settings.folder is None \
        else FolderData(settings.folder)
    series = None if settings.prometheus is None else Series(
        Prometheus(session, settings.prometheus, bearer(PROMETHEUS_TOKEN)),
        settings.rules.backend, settings.window_s)
    return InfernoLoop(cluster, data, series, settings.rules, settings.log, note,
                       dynamic=settings.dynamic)
