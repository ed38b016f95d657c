"""The process that keeps a gateway's workers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from penstock.core.errors import InputError
from penstock.engines.http import url_of
from penstock.fleet.values import Fleet
from penstock.serving.application import make_application
from penstock.serving.callers import Address
from penstock.serving.deployments.startable import is_started
from penstock.serving.gateway.keeper import keeper_part
from penstock.serving.gateway.running import SHUTDOWN_S
from penstock.serving.workers.keeping import Command, kept, new_workers
from penstock.serving.workers.place import keeper_socket
from penstock.serving.workers.private import privately_listening
from penstock.serving.workers.workers import Workers


def check_workers(fleet: Fleet, deployments: Path | None) -> None:
    """Raise InputError where one process alone must serve, as that process orders engines."""
    started = [f"replicas[{number}], whose engine is started"
               for number, group in enumerate(fleet.replicas) if is_started(group)]
    orders = [*(["--deployments"] if deployments is not None else []),
              *(["policies.scale"] if fleet.scales else []),
              *(["multiplexing"] if fleet.multiplexing else []), *started]
    if orders:
        raise InputError(f"--workers: one process alone must serve with {orders[0]}; expected "
                         "endpoints of engines that run already, or no --workers")


@asynccontextmanager
async def running_workers(command: Command, num_workers: int, host: str, port: int, scheme: str,
                          note: Callable[[str], None]) -> AsyncIterator[tuple[str, Workers]]:
    """Run workers until the context ends, which lets them drain, and yield their URL. Raises
    InputError where the address cannot be bound, or where a worker does not start."""
    async with new_workers(command, num_workers, host, port, note) as (
            workers, folder, address, held):
        app = make_application(Address("Penstock workers"), [keeper_part(workers)], note)
        async with privately_listening(app, keeper_socket(folder)), kept(
                workers, SHUTDOWN_S, note):
            yield url_of(address, held, scheme), workers
