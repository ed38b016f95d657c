"""HTTP requests to engines over aiohttp's connections, without its session.

aiohttp's session makes a request object, a task that writes, and a response object for every
request, and looks for cookies, proxies and redirects, of which engines have none. Here the
connector keeps, opens and encrypts connections, aiohttp's parser reads answers, and the bytes of a
request are written at once.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp import ClientRequest, StreamReader, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import HeadersMixin
from aiohttp.http import HttpProcessingError, RawResponseMessage
from multidict import CIMultiDictProxy
from yarl import URL

_READ_BYTES = 64 * 1024
"""An engine is read from no further while twice as many bytes of its answer wait."""
_JOINED_BYTES = 64 * 1024  # a larger body is not copied to stand behind its head


class _Reader(ResponseHandler):
    """aiohttp's reader of answers. Where reading was not paused, no bytes wait for the parser: only
    unpacking, which is not done here, leaves some."""

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:  # asked after each piece that is taken
            super().resume_reading(resume_parser)


def engine_connector(trust: ssl.SSLContext | bool) -> aiohttp.TCPConnector:
    """Return a connector to engines, without a limit."""
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    connector._factory = partial(_Reader, asyncio.get_running_loop())  # type: ignore[assignment]
    return connector


class EngineAnswer(HeadersMixin):
    """Answer of an engine, whose head is there and whose body is read from ``content``.

    The connection is kept for further requests at the end of the body. The context closes it where
    the body was not read to its end, which tells the engine to stop.
    """

    __slots__ = ("_connection", "_headers", "content", "headers", "status")

    def __init__(self, connection: Connection, message: RawResponseMessage,
                 content: StreamReader) -> None:
        self._connection = connection
        self.headers: CIMultiDictProxy[str] = message.headers
        self._headers = self.headers
        self.status = message.code
        self.content = content
        content.on_eof(connection.release)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self.content.is_eof():
            self._connection.close()


class _Target(NamedTuple):
    """Place of requests: a request by which connections are found, and the beginning of heads."""

    request: ClientRequest
    head: bytes


class EngineHttp:
    """Posts JSON to engines. A new connection may take ``connect_s`` seconds."""

    def __init__(self, session: aiohttp.ClientSession, connect_s: float) -> None:
        self._session = session
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s)
        self._targets: dict[tuple[str, str], _Target] = {}

    async def post(self, url: str, path: str, headers: Mapping[str, str],
                   body: bytes) -> EngineAnswer:
        """Return an engine's answer once its head is there. Raises aiohttp.ClientError,
        TimeoutError and ConnectionError."""
        request, head = self._targets.get((url, path)) or self._target(url, path)
        connector = self._session.connector
        if connector is None:
            raise aiohttp.ClientConnectionError("the session is closed")
        connection = await connector.connect(request, [], self._timeout)
        try:
            message, content = await _asked(connection, _whole(head, headers, body), body)
        except HttpProcessingError as error:
            connection.close()
            raise aiohttp.ClientResponseError(request.request_info, (), status=error.code,
                                              message=error.message) from error
        except BaseException:
            connection.close()
            raise
        return EngineAnswer(connection, message, content)

    def _target(self, url: str, path: str) -> _Target:
        where = URL(f"{url}{path}", encoded=True)
        request = ClientRequest(hdrs.METH_POST, where, loop=asyncio.get_running_loop())
        lines = [f"POST {where.raw_path_qs} HTTP/1.1", *(
            f"{name}: {request.headers[name]}" for name in (hdrs.HOST, hdrs.AUTHORIZATION)
            if name in request.headers), "Content-Type: application/json"]
        found = self._targets[url, path] = _Target(request, "\r\n".join(lines).encode())
        return found


def _whole(head: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the complete head of a request, and a short body behind it."""
    more = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    if more.count("\n") != len(headers) or more.count("\r") != len(headers):
        raise ValueError("a header has a line break")  # would be another header
    return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
        head, more.encode(errors="ignore"), len(body), body if len(body) < _JOINED_BYTES else b"")


async def _asked(connection: Connection, first: bytes,
                 body: bytes) -> tuple[RawResponseMessage, StreamReader]:
    """Write a request, and return the head of the answer and its body to come. Raises
    aiohttp.ClientError, ConnectionError and HttpProcessingError."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ServerDisconnectedError
    protocol.set_response_params(read_until_eof=True, auto_decompress=False,
                                 read_bufsize=_READ_BYTES)
    transport.write(first)
    if len(body) >= _JOINED_BYTES:
        transport.write(body)
    while True:
        found = await protocol.read()
        if found[0].code >= 200 or found[0].code == 101:  # before: 100 Continue, and hints
            return found
