"""Shared parts of servers of OpenAI's API: errors, and listening (aiohttp)."""

import asyncio
import errno
import logging
import os
import signal
import socket
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from penstock.core.errors import InputError
from penstock.engines.discreet_log import DiscreetFilter, keep_secrets, trace_of
from penstock.engines.door import open_door
from penstock.engines.http_body import BodyError
from penstock.engines.tls import ServerTls

METRICS_HEADERS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
"""Headers of an answer in Prometheus's text format."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON = "application/json"
_TICK_S = 0.01


class HttpError(Exception):
    """An answer with a status other than 200."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The answer's body."""


def json_response(document: Any, status: int = 200,
                  headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a JSON response."""
    return web.Response(body=orjson.dumps(document), status=status, content_type=_JSON,
                        headers=headers)


def server_logger() -> logging.Logger:
    """Return a logger for one server, which is passed to its runner."""
    logger = logging.Logger("penstock.http")
    logger.parent = logging.root
    logger.addFilter(DiscreetFilter())
    return logger


def json_errors(wrong: Callable[[web.Request, int, str], HttpError],
                on_bug: Callable[[str], None],
                check: Callable[[web.Request], None] = lambda _: None) -> Any:
    """Return a middleware that turns every error into JSON. No client sees a traceback.

    ``wrong`` builds the server's own error from a request, a status and a message. ``on_bug`` gets
    the traceback of an error that the client did not cause. ``check`` raises HttpError for a
    request that no handler may see.
    """
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request)
            return await handler(request)
        except HttpError as error:
            answer = error
        except web.HTTPException as error:
            answer = wrong(request, error.status, str(error.text or error.reason))
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except BodyError as error:
            answer = wrong(request, error.status, str(error))
        except web.RequestPayloadError:
            answer = wrong(request, 400,
                           "body: is not as long as its headers say, or not in chunks")
            answer.headers["Connection"] = "close"  # the end of the body is unknown
        except ConnectionError:
            raise  # the client has disconnected
        except Exception as error:
            on_bug(trace_of(error))
            answer = wrong(request, 500, f"this is a bug in Penstock ({type(error).__name__})")
        return json_response(answer.document(), answer.status, answer.headers)

    return middleware


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int,
                    shutdown_s: float, head_s: float = 75.0,
                    settle_s: float = 0.0, tls: ServerTls | None = None, *,
                    port_is_shared: bool = False) -> AsyncIterator[str]:
    """Yield the URL of a server, which runs until the context ends.

    Then requests of open connections are still accepted for ``settle_s``, twice (while the address
    is open, and after), and requests in progress have ``shutdown_s`` to end. A connection without a
    complete request head for ``head_s`` is closed. With ``tls``, the server speaks HTTPS alone.
    With ``port_is_shared``, other processes of this user may listen on the port, too. Raises
    InputError where the address cannot be bound, or where the files of ``tls`` do not work.
    """
    closing = False

    async def say_goodbye(_: web.Request, response: web.StreamResponse) -> None:
        if closing:
            response.force_close()
            response.headers["Connection"] = "close"

    app.on_response_prepare.append(say_goodbye)
    # With handler_cancellation, a client that disconnects stops its work. Bodies stay packed until
    # a handler asks for one (``http_body``).
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, auto_decompress=False,
                           logger=server_logger(), shutdown_timeout=shutdown_s,
                           keepalive_timeout=head_s)
    await runner.setup()
    server = runner.server
    assert server is not None, "a runner that is set up has a server"
    server.request_factory = _without_unknown_expectations(server.request_factory)
    doors = AsyncExitStack()
    try:
        try:
            door = await doors.enter_async_context(open_door(
                runner, host, port, tls, port_is_shared=port_is_shared))
        except (OSError, UnicodeError) as error:
            if isinstance(error, UnicodeError | socket.gaierror) or \
                    error.errno == errno.EADDRNOTAVAIL:
                raise InputError(f"--host: cannot listen on {host[:60]} port {port}: it is no "
                                 "address of this machine") from error
            # The text of a failed bind repeats the address. A host name error has no errno.
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror
            raise InputError(f"cannot listen on {host} port {port}: {why}") from error
        yield url_of(*door.address, scheme="http" if tls is None else "https")
        await asyncio.sleep(min(settle_s, _TICK_S))  # what waits for a place is accepted
        if settle_s > 0.0 and runner.server is not None and runner.server.connections:
            closing = True
            await asyncio.sleep(settle_s)
            door.close()
            await asyncio.sleep(settle_s)
        closing = True
    finally:
        await doors.aclose()
        await runner.cleanup()


def _without_unknown_expectations(make: Callable[..., web.BaseRequest]
                                  ) -> Callable[..., web.BaseRequest]:
    """Return a function that makes requests and leaves out any Expect but ``100-continue``.

    A server may ignore unknown expectations (RFC 9110, 10.1.1); aiohttp fails on some bytes of
    them before any handler is called.
    """
    def make_request(message: Any, *others: Any) -> web.BaseRequest:
        expected = message.headers.get("Expect")
        if expected is not None and expected.lower() != "100-continue":
            headers = CIMultiDict(message.headers)
            del headers["Expect"]
            message = message._replace(headers=CIMultiDictProxy(headers))
        return make(message, *others)

    return make_request


def run_server(work: Coroutine[Any, Any, None]) -> None:
    """Run a server to its end, on uvloop where that is installed. What is asked of the server stays
    out of this process's logs and core dumps."""
    async def discreetly() -> None:
        keep_secrets()
        await work

    try:
        import uvloop
    except ImportError:
        asyncio.run(discreetly())
    else:
        uvloop.run(discreetly())


def url_of(address: str, port: int, scheme: str = "http") -> str:
    """Return the URL of an address, also of IPv6."""
    name = f"[{address}]" if ":" in address else address
    return f"{scheme}://{name}:{port}"


def stop_signal() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
