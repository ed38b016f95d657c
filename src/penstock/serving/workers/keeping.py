"""The process that keeps the workers of a server: their port, their start and their end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.serving.background import background
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import Client
from penstock.serving.workers.workers import Workers

_LOOK_S = 1.0
_LONGER_S = 5.0  # than open requests have, after which a worker is killed

Command = Callable[[WorkerPlace, int], Sequence[str]]
"""Command line of a worker at its place, on a port."""


class Kept(NamedTuple):
    """Workers, the folder that they share, and their address and port."""

    workers: Workers
    folder: Path
    host: str
    port: int


@asynccontextmanager
async def new_workers(command: Command, num_workers: int, host: str, port: int,
                      note: Callable[[str], None]) -> AsyncIterator[Kept]:
    """Yield workers that do not run yet, and hold their port. Raises InputError where the address
    cannot be bound."""
    check_free(host, port)
    with TemporaryDirectory(prefix="penstock-workers-") as name, _held(host, port) as held:
        folder = Path(name)
        async with Client() as client:
            yield Kept(Workers(lambda place: command(place, held[1]), folder, num_workers,
                               client, note), folder, *held)


@asynccontextmanager
async def kept(workers: Workers, drain_s: float, note: Callable[[str], None]
               ) -> AsyncIterator[None]:
    """Run workers until the context ends, which lets them drain. Raises InputError where one does
    not start."""
    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await workers.look()

    keeping = asyncio.create_task(workers.keep())
    try:
        async with background([look], note):
            await _first(keeping, workers.all_serving())
            yield
            workers.stop()
            await asyncio.wait({keeping}, timeout=drain_s + _LONGER_S)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


def check_free(host: str, port: int) -> None:
    """Raise InputError where an address cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no address of this machine"
        # The text of a failed bind repeats the address.
        raise InputError(f"cannot listen on {host[:60]} port {port}: "
                         f"{why.partition(' (while')[0]}") from error


async def _first(keeping: "asyncio.Task[None]", all_serving: Coroutine[Any, Any, None]) -> None:
    """Wait until all workers serve. Raises the error of a worker that does not start."""
    serving = asyncio.create_task(all_serving)
    await asyncio.wait({keeping, serving}, return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        serving.cancel()
        keeping.result()


@contextmanager
def _held(host: str, port: int) -> Iterator[tuple[str, int]]:
    """Yield an address and a port that only processes of this user can bind. The socket does not
    listen, so that it takes no connection."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host, port))
        address, bound = held.getsockname()[:2]
        yield address, bound
