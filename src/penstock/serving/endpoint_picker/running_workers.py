"""The process that keeps an endpoint picker's workers: their port, and one /metrics for all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from penstock.engines.http import listening
from penstock.serving.application import make_application
from penstock.serving.callers import Address
from penstock.serving.endpoint_picker.addresses import joined
from penstock.serving.endpoint_picker.operations import operations_of_workers
from penstock.serving.endpoint_picker.running import HTTP_SHUTDOWN_S, Places
from penstock.serving.endpoint_picker.server import check_free
from penstock.serving.endpoint_picker.workers import WorkerPlace, Workers
from penstock.serving.gateway.background import background

_LOOK_S = 1.0
_ANSWER_S = 5.0
_LONGER_S = 5.0  # than open requests have, after which a worker is killed


@dataclass(frozen=True, slots=True)
class RunningWorkers:
    """Workers that run: their common gRPC address, and the URL of health and metrics."""

    address: str
    url: str
    workers: Workers


@asynccontextmanager
async def running_workers(command: Callable[[WorkerPlace, int], Sequence[str]], num_workers: int,
                          places: Places, drain_s: float, note: Callable[[str], None]
                          ) -> AsyncIterator[RunningWorkers]:
    """Run workers until the context ends, which lets them drain. ``command(place, port)`` is a
    worker's command line. Raises InputError where an address cannot be bound, or where a worker
    does not start."""
    check_free(places.host, places.port)
    with TemporaryDirectory(prefix="penstock-picker-") as folder, \
            _held_port(places.host, places.port) as port:
        workers = Workers(lambda place: command(place, port), Path(folder), num_workers, note)
        async with aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session:
            async def get(url: str) -> tuple[int, bytes]:
                async with session.get(url) as answer:
                    return answer.status, await answer.read()

            async def look() -> None:
                while True:
                    await asyncio.sleep(_LOOK_S)
                    await workers.look(get)

            app = make_application(
                Address("Penstock endpoint picker", places.host, places.host_names),
                [operations_of_workers(workers, get)], note)
            keeping = asyncio.create_task(workers.keep())
            try:
                async with listening(app, places.host, places.metrics_port,
                                     HTTP_SHUTDOWN_S) as url, background([look], note):
                    await _first(keeping, workers.all_serving())
                    yield RunningWorkers(joined(places.host, port), url, workers)
                    workers.stop()
                    await asyncio.wait({keeping}, timeout=drain_s + _LONGER_S)
            finally:
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)


async def _first(keeping: "asyncio.Task[None]", all_serving: Coroutine[Any, Any, None]) -> None:
    """Wait until all workers serve. Raises the error of a worker that does not start."""
    serving = asyncio.create_task(all_serving)
    await asyncio.wait({keeping, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        serving.cancel()
        keeping.result()


@contextmanager
def _held_port(host: str, port: int) -> Iterator[int]:
    """Yield a port that only processes of this user can bind. The socket does not listen, so that
    it takes no connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        yield held.getsockname()[1]
