"""Bodies of HTTP requests, read, unpacked and parsed within limits.

The HTTP server itself unpacks nothing (``listening`` in ``http``), so a packed body costs a caller
without a key as many bytes as it costs the server.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

import orjson
from aiohttp import web

MOST_NODES = 100_000
"""Most objects, arrays and strings of one JSON document."""

MOST_VALUES = 1_200_000
"""Most values of one JSON document: a prompt of token ids has many."""

LARGE_BYTES = 512 * 1024
"""A larger body is parsed in turns, between which other requests go on."""

_ZLIB, _GZIP, _DEFLATE = 15, 31, 8
_WINDOW_BITS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_PIECE_BYTES = 256 * 1024  # unpacked at once; other requests go on after each piece


class BodyError(Exception):
    """A body that cannot be read; ``status`` is that of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class JsonBody(NamedTuple):
    """A parsed JSON body, and its length before."""

    document: Any
    num_bytes: int


async def read_body(http: web.Request, most_bytes: int | None = None,
                    on_bytes: Callable[[int], None] = lambda _: None) -> bytes:
    """Return a request's body, unpacked. ``on_bytes`` gets the length of each part that arrives in
    memory, and may raise an error to stop.

    The limit is the application's where ``most_bytes`` is None. Raises BodyError: with status 413
    before more than the limit and one piece is in memory, 415 for an unknown packing, 400 for a
    body that is not packed as its header says.
    """
    most = http.client_max_size if most_bytes is None else most_bytes
    if (http.content_length or 0) > most:
        raise _too_large(most)
    packing = http.headers.get("Content-Encoding", "identity").strip().lower()
    if packing == "identity":
        if http.content.is_eof():  # all is here, so nothing more is taken into memory
            whole = http.content.read_nowait()
            on_bytes(len(whole))
            if len(whole) > most:
                raise _too_large(most)
            return whole
        parts = _arriving(http)
    elif packing in _WINDOW_BITS:
        parts = _unpacked(_arriving(http), packing)
    else:
        raise BodyError(415, f"body: cannot be unpacked; Content-Encoding is {packing[:40]!r}, "
                             f"expected {', '.join(sorted(_WINDOW_BITS))} or none")
    body = bytearray()
    async for part in parts:
        on_bytes(len(part))
        body += part
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def read_json(content: bytes) -> Any:
    """Return the value of a JSON document.

    Raises orjson.JSONDecodeError, and BodyError with status 413 before a document of more than
    ``MOST_NODES`` or ``MOST_VALUES`` is parsed.
    """
    for _ in _size_checks(content):
        pass
    return orjson.loads(content)


async def parse_json(content: bytes, turns: asyncio.Lock) -> JsonBody:
    """Return a parsed body, as ``read_json`` parses it. Of large bodies one is parsed at a time,
    while ``turns`` is held, and other work of the event loop goes on in between."""
    if len(content) <= LARGE_BYTES:
        return JsonBody(read_json(content), len(content))
    async with turns:
        for _ in _size_checks(content):
            await asyncio.sleep(0)
        document = orjson.loads(content)
        await asyncio.sleep(0)
    return JsonBody(document, len(content))


def _size_checks(content: bytes) -> Iterator[None]:
    """Check that a document is not too large to parse, and pause after each piece of the check.
    Raises BodyError."""
    quotes, opened = content.count(b'"'), content.count(b"{") + content.count(b"[")
    if quotes // 2 + opened <= MOST_NODES and content.count(b",") + opened <= MOST_VALUES:
        return  # even if none of these bytes stood inside a string
    yield
    # Without escapes, a quote opens or closes a string, so every second part is outside of strings.
    # An escape outside of strings is an error, and no byte after the error is parsed.
    quotes = opened = commas = 0
    cut_escape = b""
    for start in range(0, len(content), _PIECE_BYTES):
        piece = cut_escape + content[start:start + _PIECE_BYTES]
        cut_escape = b"\\" if (len(piece) - len(piece.rstrip(b"\\"))) % 2 else b""
        piece = piece.removesuffix(cut_escape).replace(b"\\\\", b"").replace(b'\\"', b"")
        begins_in_string = quotes % 2
        quotes += piece.count(b'"')
        if (quotes + 1) // 2 <= MOST_NODES:
            outside = b"".join(piece.split(b'"')[begins_in_string::2])
            opened += outside.count(b"{") + outside.count(b"[")
            commas += outside.count(b",")
        if (quotes + 1) // 2 + opened > MOST_NODES or commas + opened > MOST_VALUES:
            raise BodyError(413, f"body: has more than {MOST_NODES} objects, arrays and strings or "
                                 f"{MOST_VALUES} values, the most that this server takes")
        yield


async def _arriving(http: web.Request) -> AsyncIterator[bytes]:
    while part := await http.content.readany():
        yield part


async def _unpacked(parts: AsyncIterator[bytes], packing: str) -> AsyncIterator[bytes]:
    """Yield a packed body piece by piece; several gzip members may follow each other (RFC 1952)."""
    window_bits = _WINDOW_BITS[packing]
    try:
        unpacker = zlib.decompressobj(window_bits)
        has_begun = False
        async for part in parts:
            if not has_begun and window_bits == _ZLIB and part[0] & 15 != _DEFLATE:
                window_bits = -_ZLIB  # many clients leave out the zlib header (RFC 9110, 8.4.1.2)
                unpacker = zlib.decompressobj(window_bits)
            while part:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(window_bits)
                piece = unpacker.decompress(part, _PIECE_BYTES)
                has_begun = True
                part = unpacker.unconsumed_tail or unpacker.unused_data
                if piece:
                    yield piece
                    await asyncio.sleep(0)
    except zlib.error as error:
        raise _not_packed(packing) from error
    if has_begun and not unpacker.eof:
        raise _not_packed(packing)


def _not_packed(packing: str) -> BodyError:
    return BodyError(400, f"body: cannot be decoded; Content-Encoding says {packing!r}")


def _too_large(most_bytes: int) -> BodyError:
    return BodyError(413, f"body: larger than {most_bytes / 2**20:.3g} MB, the most that this "
                          "server takes")
