"""The gRPC side of the endpoint picker (grpcio, extra ``kubernetes``)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from penstock.serving.endpoint_picker.addresses import joined
from penstock.serving.endpoint_picker.external_processor import SERVICE, handler
from penstock.serving.endpoint_picker.stream import PickerStream, StreamContext
from penstock.serving.workers.keeping import check_free

LIVENESS, READINESS = "liveness", "readiness"
_FOLLOWING_READINESS = ("", READINESS, SERVICE)
_MOST_MESSAGE_BYTES = 16 * 2**20
_OPTIONS = (
    ("grpc.max_receive_message_length", _MOST_MESSAGE_BYTES),
    # Gateways ping idle connections; by default gRPC would close those that ping within 5 minutes.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000))
_SETTLE_S = 1.0  # without a stream, after which the gateway has learned that the picker stops
_TICK_S = 0.05


class Processor:
    """Serves the streams of gateways. One event loop owns the processor."""

    def __init__(self, context: StreamContext) -> None:
        self._context = context
        self.num_open = 0

    async def process(self, request_iterator: AsyncIterator[Any],
                      context: Any) -> AsyncIterator[Any]:
        """Serve one stream until its end, or until the gateway closes it."""
        stream = PickerStream(self._context)
        self.num_open += 1
        self._context.books.metrics.open_streams.inc()
        try:
            async for message in request_iterator:
                for reply in await stream.take(message):
                    yield reply
                if stream.done:
                    return
        finally:
            self.num_open -= 1
            self._context.books.metrics.open_streams.dec()
            stream.close()


class Health:
    """The health services of the picker."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()
        self.is_ready = False

    async def begin(self) -> None:
        """State that the picker lives and is not ready."""
        await self.servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
        await self.set_ready(is_ready=False)

    async def set_ready(self, *, is_ready: bool) -> None:
        """State whether the picker is ready."""
        self.is_ready = is_ready
        status = health_pb2.HealthCheckResponse
        for name in _FOLLOWING_READINESS:
            await self.servicer.set(name, status.SERVING if is_ready else status.NOT_SERVING)


@asynccontextmanager
async def grpc_listening(processor: Processor, own_health: Health, host: str, port: int,
                         credentials: Any, drain_s: float, *,
                         port_is_shared: bool = False) -> AsyncIterator[str]:
    """Yield the address of the gRPC server, which drains when the context ends: readiness goes
    first, then streams have ``drain_s`` to end. Raises InputError where the address cannot be
    bound. Only workers of one picker share a port: another picker on the port must fail, and not
    take half of the streams."""
    if not port_is_shared:
        check_free(host, port)
    server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(port_is_shared))))
    server.add_generic_rpc_handlers((handler(processor.process),))
    health_pb2_grpc.add_HealthServicer_to_server(own_health.servicer, server)
    await own_health.begin()
    place = joined(host, port)
    bound = server.add_insecure_port(place) if credentials is None else \
        server.add_secure_port(place, credentials)
    await server.start()
    try:
        yield joined(host, bound)
        await own_health.set_ready(is_ready=False)
        await _settle(lambda: processor.num_open, drain_s / 2)
        await server.stop(drain_s / 2)
    finally:
        await server.stop(0)


async def _settle(num_open: Callable[[], int], longest_s: float) -> None:
    """Wait until no stream has been open for a while: gateways need time to learn that the picker
    stops, and their streams are served meanwhile."""
    loop = asyncio.get_running_loop()
    last_s = quiet_since_s = loop.time()
    until_s = last_s + longest_s
    while (now_s := loop.time()) < until_s and now_s - quiet_since_s < _SETTLE_S:
        await asyncio.sleep(_TICK_S)
        if num_open():
            quiet_since_s = loop.time()
