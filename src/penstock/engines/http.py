"""Shared parts of servers of OpenAI's API: errors, and listening (aiohttp)."""

import asyncio
import errno
import logging
import os
import signal
import socket
import time
import traceback
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from penstock.core.errors import InputError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_JSON = "application/json"
_SAID_EACH_S = 60.0


class HttpError(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The answer's body."""


def json_response(document: Any, status: int = 200,
                  headers: Mapping[str, str] | None = None) -> web.Response:
    """A document as an answer."""
    return web.Response(body=orjson.dumps(document), status=status, content_type=_JSON,
                        headers=headers)


async def read_body(http: web.Request, most_bytes: int | None = None) -> bytes:
    """A request's body, unpacked where it came packed. Raises HTTPRequestEntityTooLarge before
    much more than the limit is in memory, which is the application's where none is given."""
    most = http.client_max_size if most_bytes is None else most_bytes
    if "Content-Encoding" not in http.headers:
        whole = await http.read()
        if len(whole) > most:
            raise _TooLargeError(most)
        return whole
    # aiohttp's own read() lets whole chunks of several times the limit be unpacked at once.
    body = bytearray()
    while chunk := await http.content.readany():
        body += chunk
        if len(body) > most:
            raise _TooLargeError(most)
    return bytes(body)


@lru_cache(maxsize=1024)
def is_loopback(name: str | None) -> bool:
    """Whether an address or name is this machine's own; unknown is not."""
    try:
        address = ip_address(name or "")
    except ValueError:
        return name == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


class MalformedHttp(logging.Filter):
    """Makes one line a minute of all requests that are no HTTP or are not packed as they say,
    without any byte of them: aiohttp would print a trace of each. Other records pass as they are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._number = 0
        self._silent_until_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be printed."""
        if record.exc_info is None or not isinstance(
                record.exc_info[1], HttpProcessingError | web.RequestPayloadError):
            return True
        self._number += 1
        now_s = self._clock()
        if now_s < self._silent_until_s:
            return False
        record.msg, record.args = "malformed HTTP was answered 400 (requests: %d)", (self._number,)
        record.exc_info = record.exc_text = None
        self._number, self._silent_until_s = 0, now_s + _SAID_EACH_S
        return True


def server_logger() -> logging.Logger:
    """A logger for one server, to be handed to its runner."""
    logger = logging.Logger("penstock.http")
    logger.parent = logging.root
    logger.addFilter(MalformedHttp())
    return logger


class _TooLargeError(web.HTTPRequestEntityTooLarge):
    """A body is larger than ``most_bytes``."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(most_bytes, most_bytes + 1)
        self.most_bytes = most_bytes


def errors_told(wrong: Callable[[web.Request, int, str], HttpError],
                on_bug: Callable[[str], None]) -> Any:
    """A middleware that turns whatever goes wrong into JSON; no client sees a traceback.

    ``wrong`` makes the server's own error of a request, a status and a message; ``on_bug`` is told
    the trace of an error that is not the client's.
    """
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except HttpError as error:
            told = error
        except web.HTTPException as error:
            most = error.most_bytes if isinstance(error, _TooLargeError) else \
                request.client_max_size
            told = wrong(request, error.status, str(error.text or error.reason)
                         if error.status != 413 else f"body: larger than {most / 2**20:.3g} MB, "
                         "the most that this server takes")
            if "Allow" in error.headers:
                told.headers["Allow"] = error.headers["Allow"]
        except web.RequestPayloadError:  # it is not packed as its headers say
            encoding = request.headers.get("Content-Encoding", "none")
            told = wrong(request, 400, "body: cannot be decoded; Content-Encoding says "
                                       f"{encoding[:40]!r}")
            told.headers["Connection"] = "close"  # where the body ends is not known
        except ConnectionError:
            raise  # the client has gone; there is nobody to tell
        except Exception as error:
            on_bug(traceback.format_exc())
            told = wrong(request, 500, f"this is a bug in Penstock ({type(error).__name__})")
        return json_response(told.document(), told.status, told.headers)

    return middleware


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int,
                    goodbye_s: float, head_s: float = 75.0) -> AsyncIterator[str]:
    """The URL of a server, which is there until the context ends; what is under way then has
    ``goodbye_s`` to end. A connection on which no whole head of a request came for ``head_s`` is
    closed. Raises InputError where nobody can listen."""
    # With handler_cancellation, a client who hangs up stops the work that was done for it.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True,
                           logger=server_logger(), shutdown_timeout=goodbye_s,
                           keepalive_timeout=head_s)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except (OSError, UnicodeError) as error:
            if isinstance(error, UnicodeError | socket.gaierror) or \
                    error.errno == errno.EADDRNOTAVAIL:
                raise InputError(f"--host: cannot listen on {host[:60]} port {port}: it is no "
                                 "address of this machine") from error
            # The text of a failed bind repeats the address. An error of a host name has no errno.
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror
            raise InputError(f"cannot listen on {host} port {port}: {why}") from error
        yield url_of(*runner.addresses[0][:2])
    finally:
        await runner.cleanup()


def run_server(work: Coroutine[Any, Any, None]) -> None:
    """Run a server to its end, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def url_of(address: str, port: int) -> str:
    """The URL of an address, of the sixth version too."""
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def stop_signal() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped
