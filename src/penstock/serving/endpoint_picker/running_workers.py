"""The process that keeps an endpoint picker's workers: one address, and one /metrics for all."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from penstock.engines.http import listening
from penstock.serving.application import make_application
from penstock.serving.callers import Address
from penstock.serving.endpoint_picker.addresses import joined
from penstock.serving.endpoint_picker.operations import operations_of_workers
from penstock.serving.endpoint_picker.running import HTTP_SHUTDOWN_S, Places
from penstock.serving.workers.keeping import Command, kept, new_workers
from penstock.serving.workers.workers import Workers


@dataclass(frozen=True, slots=True)
class RunningWorkers:
    """Workers that run: their common gRPC address, and the URL of health and metrics."""

    address: str
    url: str
    workers: Workers


@asynccontextmanager
async def running_workers(command: Command, num_workers: int, places: Places, drain_s: float,
                          note: Callable[[str], None]) -> AsyncIterator[RunningWorkers]:
    """Run workers until the context ends, which lets them drain. Raises InputError where an address
    cannot be bound, or where a worker does not start."""
    async with new_workers(command, num_workers, places.host, places.port, note) as (
            workers, _, _, port):
        app = make_application(
            Address("Penstock endpoint picker", places.host, places.host_names),
            [operations_of_workers(workers)], note)
        async with listening(app, places.host, places.metrics_port, HTTP_SHUTDOWN_S) as url, kept(
                workers, drain_s, note):
            yield RunningWorkers(joined(places.host, port), url, workers)
