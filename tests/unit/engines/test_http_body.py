"""Bodies of requests: unpacked and parsed within limits, whatever their bytes are."""

import asyncio
import gzip
import zlib

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.engines import http_body
from penstock.engines.http_body import BodyError, read_body, read_json


class Content:
    """The bytes of a request, which arrive in pieces; counts the pieces that were taken."""

    def __init__(self, parts):
        self.parts = list(parts)
        self.num_taken = 0

    def is_eof(self):
        return False

    async def readany(self):
        self.num_taken += 1
        return self.parts.pop(0) if self.parts else b""


class Request:
    client_max_size = 1000

    def __init__(self, *parts, packing=None, length=None):
        self.content = Content(parts)
        self.headers = {} if packing is None else {"Content-Encoding": packing}
        self.content_length = length


def body_of(*parts, most=None, **more):
    return asyncio.run(read_body(Request(*parts, **more), most))


def error_of(*parts, **more):
    with pytest.raises(BodyError) as found:
        body_of(*parts, **more)
    return found.value.status, str(found.value)


PLAIN = b"rivers " * 30


def packed_gzip(text):
    """Without the time, so that names of tests are the same in every process."""
    return gzip.compress(text, mtime=0)


def raw_deflate(text):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


@pytest.mark.parametrize(("packing", "packed"), [
    (None, PLAIN), ("identity", PLAIN), ("gzip", packed_gzip(PLAIN)),
    ("X-GZip ", packed_gzip(PLAIN)), ("deflate", zlib.compress(PLAIN)),
    ("deflate", raw_deflate(PLAIN)), ("gzip", b""),
    ("gzip", packed_gzip(PLAIN[:50]) + packed_gzip(PLAIN[50:]))])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_comes_out_as_it_was_packed(packing, packed, size) -> None:
    parts = [packed[i:i + size] for i in range(0, len(packed), size)]
    assert body_of(*parts, packing=packing) == (PLAIN if packed else b"")


@pytest.mark.parametrize(("packing", "body"), [
    ("gzip", PLAIN), ("gzip", packed_gzip(PLAIN)[:-9]), ("deflate", packed_gzip(PLAIN)),
    ("gzip", packed_gzip(PLAIN) + b"and more")])
def test_a_body_that_is_not_packed_as_it_says_is_refused(packing, body) -> None:
    status, message = error_of(body, packing=packing)
    assert (status, message) == (
        400, f"body: cannot be decoded; Content-Encoding says {packing!r}")


def test_an_unknown_packing_is_refused_before_anything_is_read() -> None:
    request = Request(PLAIN, packing="gzip, gzip")
    with pytest.raises(BodyError, match=r"'gzip, gzip', expected deflate, gzip, x-gzip or none"):
        asyncio.run(read_body(request))
    assert request.content.num_taken == 0


def test_a_length_beyond_the_limit_is_refused_before_anything_is_read() -> None:
    request = Request(PLAIN, length=1001)
    with pytest.raises(BodyError) as found:
        asyncio.run(read_body(request))
    assert (found.value.status, request.content.num_taken) == (413, 0)


def test_a_bomb_is_unpacked_to_little_more_than_the_limit(monkeypatch) -> None:
    unpacked = 0

    class Counting:
        def __init__(self, bits):
            self.inner = real(bits)

        def decompress(self, part, most):
            nonlocal unpacked
            piece = self.inner.decompress(part, most)
            unpacked += len(piece)
            return piece

        def __getattr__(self, name):
            return getattr(self.inner, name)

    real = zlib.decompressobj
    monkeypatch.setattr(http_body.zlib, "decompressobj", Counting)
    most = 2**20
    status, message = error_of(packed_gzip(bytes(64 * 2**20)), packing="gzip", most=most)
    assert (status, message) == (
        413, "body: larger than 1 MB, the most that this server takes")
    assert unpacked <= most + http_body._PIECE_BYTES


def nested(depth):
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize("bomb", [
    b'{"messages":[' + b"{}," * 300_000 + b"{}]}",
    b"[" + b'"",' * 300_000 + b'""]',
    b"[" + b"[]," * 300_000 + b"1]",
    b"[" + b"1," * 1_600_000 + b"1]",
    b'["\\"' + b'","' * 300_000 + b'"]',
    nested(300_000)])
def test_a_document_of_too_many_parts_is_never_parsed(bomb, monkeypatch) -> None:
    monkeypatch.setattr(http_body.orjson, "loads", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(BodyError, match="more than 100000 objects, arrays and strings or 1200000"):
        read_json(bomb)


@pytest.mark.parametrize("document", [
    {"prompt": "{[,\"\\" * 400_000}, {"prompt": [7] * 1_000_000},
    {"prompt": ["\\", "\\\"", "{" * 300_000, "a"]}])
def test_long_texts_and_token_ids_are_no_bomb(document) -> None:
    assert read_json(orjson.dumps(document)) == document


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('a"\\{[,', max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
        st.text('a"\\{[,', max_size=4), inner, max_size=5), max_leaves=30)


def size_of(value):
    """Nodes, and separators between values, of a document."""
    if isinstance(value, str):
        return 1, 0
    if isinstance(value, dict):
        sizes = [size_of(one) for one in value.values()]
        return (1 + len(value) + sum(n for n, _ in sizes),
                1 + max(0, len(value) - 1) + sum(v for _, v in sizes))
    if isinstance(value, list):
        sizes = [size_of(one) for one in value]
        return 1 + sum(n for n, _ in sizes), 1 + max(0, len(value) - 1) + sum(v for _, v in sizes)
    return 0, 0


@given(JSON)
def test_a_document_is_parsed_just_within_its_exact_size(document) -> None:
    content, (nodes, values) = orjson.dumps(document), size_of(document)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_body, "MOST_NODES", nodes)
        patch.setattr(http_body, "MOST_VALUES", values)
        assert read_json(content) == document
        for name, size in (("MOST_NODES", nodes), ("MOST_VALUES", values)):
            if size:
                with pytest.MonkeyPatch.context() as tighter:
                    tighter.setattr(http_body, name, size - 1)
                    with pytest.raises(BodyError):
                        read_json(content)
