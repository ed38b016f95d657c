"""HTTP requests to engines over aiohttp's connections, with httptools' parser.

aiohttp's session makes a request object, a task that writes, a response object and a reader of
pieces for every request, and looks for cookies, proxies and redirects, of which engines have none.
Here its connector opens, encrypts and keeps connections. The bytes of a request are written at
once, and the pieces of an answer are collected by its parser.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import aiohttp
from aiohttp import ClientRequest, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.helpers import HeadersMixin
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from multidict import CIMultiDict
from yarl import URL

_MOST_WAITING_BYTES = 128 * 1024
"""An engine is read from no further while more bytes of its answer wait."""
_MOST_HEAD_BYTES = 64 * 1024
_JOINED_BYTES = 64 * 1024  # a larger body is not copied to stand behind its head


class _Reader(ResponseHandler):
    """Reads a connection: the ``answer`` that is expected, and else as aiohttp does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.answer: EngineAnswer | None = None

    def data_received(self, data: bytes) -> None:
        if self.answer is None:
            super().data_received(data)
        else:
            self.answer.received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        answer, self.answer = self.answer, None
        super().connection_lost(exc)
        if answer is not None:
            answer.lost(exc)


def engine_connector(trust: ssl.SSLContext | bool) -> aiohttp.TCPConnector:
    """Return a connector to engines, without a limit."""
    connector = aiohttp.TCPConnector(limit=0, ssl=trust)
    connector._factory = partial(_Reader, asyncio.get_running_loop())  # type: ignore[assignment]
    return connector


class EngineAnswer(HeadersMixin):
    """Answer of an engine: its ``status`` and ``headers`` once ``head`` has returned, and its body,
    piece by piece.

    The connection is kept for further requests at the end of the body. The context closes it where
    the body has not come to its end, which tells the engine to stop.
    """

    __slots__ = ("_connection", "_error", "_headers", "_is_whole", "_keeps", "_num_head_bytes",
                 "_num_waiting", "_parser", "_parts", "_reader", "_waiter", "headers", "on_body",
                 "status")

    def __init__(self, connection: Connection, reader: _Reader) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self._headers = self.headers
        self._connection = connection
        self._reader = reader
        self._parts: list[bytes] = []
        self._num_waiting = self._num_head_bytes = 0
        self._is_whole = self._keeps = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.on_body = self._parts.append
        parser = HttpResponseParser(self)
        # As aiohttp's client: servers end lines with LF alone, and pad sizes of chunks.
        parser.set_dangerous_leniencies(lenient_headers=True, lenient_optional_cr_before_lf=True,
                                        lenient_spaces_after_chunk_size=True)
        self._parser: HttpResponseParser | None = parser
        reader.answer = self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, unless the whole answer has come."""
        if self._parser is not None:
            self._end()
            self._connection.close()

    # -- reading --------------------------------------------------------------------------------

    @property
    def at_end(self) -> bool:
        """Whether all of the body was read."""
        return self._is_whole and not self._parts

    async def head(self) -> None:
        """Wait for the answer's head. Raises aiohttp.ClientError."""
        while not self.status:
            if self._error is not None:
                raise self._error
            await self._more()

    async def read(self) -> bytes:
        """Return the bytes of the body that have come, empty at its end. Raises
        aiohttp.ClientError after the last bytes of an answer that is not whole."""
        parts = self._parts
        while not parts:
            if self._error is not None:
                raise self._error
            if self._is_whole:
                return b""
            await self._more()
        found = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self._num_waiting > _MOST_WAITING_BYTES and self._reader.transport is not None:
            self._reader.transport.resume_reading()
        self._num_waiting = 0
        return found

    def fail(self, error: Exception) -> None:
        """End the answer with an error, which ``head`` and ``read`` raise."""
        if not self._is_whole and self._error is None:
            self._error = error
            self._wake()

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # -- the connection -------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        parser = self._parser
        assert parser is not None, "a connection knows an answer until its end"
        if not self.status:
            self._num_head_bytes += len(data)
        try:
            parser.feed_data(data)
            if not self.status and self._num_head_bytes > _MOST_HEAD_BYTES:
                raise HttpParserError("a head without an end")
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self._is_whole:
                self.fail(aiohttp.ClientPayloadError(str(error)))
                self.close()
                return
            self._keeps = False  # more came than the answer
        if self._is_whole:
            self._release()
        else:
            self._num_waiting += len(data)
            if self._num_waiting > _MOST_WAITING_BYTES and self._reader.transport is not None:
                self._reader.transport.pause_reading()
        self._wake()

    def lost(self, error: BaseException | None) -> None:
        """Take the end of the connection."""
        if self.status and error is None and self._ends_with_connection:
            self._is_whole = True
        elif self.status:
            self.fail(aiohttp.ClientPayloadError("the answer is not whole"))
        elif isinstance(error, OSError):
            self.fail(aiohttp.ClientOSError(*error.args))
        else:
            self.fail(aiohttp.ServerDisconnectedError())
        self.close()
        self._wake()

    @property
    def _ends_with_connection(self) -> bool:
        return (hdrs.CONTENT_LENGTH not in self.headers
                and hdrs.TRANSFER_ENCODING not in self.headers)

    def _release(self) -> None:
        """Give the connection back, which waits for the next request."""
        transport = self._reader.transport
        self._end()
        if not self._keeps or transport is None or transport.get_write_buffer_size():
            self._connection.close()
            return
        if self._num_waiting > _MOST_WAITING_BYTES:
            transport.resume_reading()
        self._connection.release()

    def _end(self) -> None:
        self._reader.answer = self._parser = None

    # -- called by the parser -------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_whole:
            raise HttpParserError("a second answer to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.add(name.decode("latin-1"), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        assert self._parser is not None, "the parser calls"
        status = self._parser.get_status_code()
        if status >= 200:
            self.status = status
        else:  # 100 Continue, and hints: the answer's own head follows
            self.headers.clear()

    def on_message_complete(self) -> None:
        assert self._parser is not None, "the parser calls"
        if self.status:
            self._is_whole, self._keeps = True, self._parser.should_keep_alive()


class _Target(NamedTuple):
    """Place of requests: a request by which connections are found, and the beginning of heads."""

    request: ClientRequest
    head: bytes


class EngineHttp:
    """Posts JSON to engines over the connections of a ``session`` with an ``engine_connector``. A
    new connection may take ``connect_s`` seconds."""

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
        reader, transport = connection.protocol, connection.transport
        assert isinstance(reader, _Reader), "the connector is an engine_connector"
        if transport is None:
            connection.close()
            raise aiohttp.ServerDisconnectedError
        answer = EngineAnswer(connection, reader)
        try:
            transport.write(_first(head, headers, body))
            if len(body) >= _JOINED_BYTES:
                transport.write(body)
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def _target(self, url: str, path: str) -> _Target:
        where = URL(f"{url}{path}", encoded=True)
        request = ClientRequest(hdrs.METH_POST, where, loop=asyncio.get_running_loop())
        lines = [f"POST {where.raw_path_qs} HTTP/1.1", *(
            f"{name}: {request.headers[name]}" for name in (hdrs.HOST, hdrs.AUTHORIZATION)
            if name in request.headers), "Content-Type: application/json"]
        found = self._targets[url, path] = _Target(request, "\r\n".join(lines).encode())
        return found


def _first(head: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the complete head of a request, and a short body behind it."""
    more = "".join(f"\r\n{name}: {value}" for name, value in headers.items())
    if more.count("\n") != len(headers) or more.count("\r") != len(headers):
        raise ValueError("a header has a line break")  # would be another header
    return b"%b%b\r\nContent-Length: %d\r\n\r\n%b" % (
        head, more.encode(errors="ignore"), len(body), body if len(body) < _JOINED_BYTES else b"")
