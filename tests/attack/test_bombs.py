"""Bodies and answers that are small on the wire and huge in memory."""

import asyncio
import gzip
import zlib

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

from aiohttp import web

from support import misbehaving_engines as odd
from support.gateway_with_keys import home

PACKED = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
ZEROS = gzip.compress(bytes(48 * 2**20))
PATHS = ("/v1/completions", "/v1/chat/completions", "/no/such/path", "/v1/plan",
         "/v1/penstock/engines/drain", "/health")


@pytest.fixture
def unpacked(monkeypatch):
    """The sizes of all pieces that this process unpacks."""
    sizes: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *settings, **more):
            self._inner = real(*settings, **more)

        def decompress(self, *settings):
            piece = self._inner.decompress(*settings)
            sizes.append(len(piece))
            return piece

        def __getattr__(self, name):
            return getattr(self._inner, name)

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    return sizes


@pytest.mark.parametrize("path", PATHS)
def test_a_body_without_a_key_is_never_unpacked(path, tmp_path, unpacked) -> None:
    async def work():
        async with home(tmp_path) as here:
            answer, _ = await here.post("nobody", path, ZEROS, PACKED)
            return answer.status

    assert asyncio.run(work()) in (401, 404, 405)
    assert sum(unpacked) == 0


def test_a_body_with_a_key_is_unpacked_to_the_limit_and_no_further(tmp_path, unpacked) -> None:
    async def work():
        async with home(tmp_path) as here:
            answer, body = await here.post("shop", "/v1/completions", ZEROS, PACKED)
            return answer.status, body

    status, body = asyncio.run(work())
    assert status == 413
    assert b"larger than 16 MB" in body
    assert sum(unpacked) <= 17 * 2**20


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize("part", [b"{}", b'""', b"[]"])
def test_a_body_of_millions_of_parts_is_refused_unparsed(path, part, tmp_path) -> None:
    body = gzip.compress(b'{"messages":[' + (part + b",") * 5_000_000 + part + b"]}")

    async def work():
        async with home(tmp_path) as here:
            answer, said = await here.post("shop", path, body, PACKED)
            _, status = await here.get("admin", "/v1/penstock/status")
            return answer.status, said, status["num_in_flight"]

    status, said, num_in_flight = asyncio.run(work())
    assert status == 413
    assert b"more than 100000 objects, arrays and strings" in said
    assert num_in_flight == 0


@pytest.mark.parametrize("stream", [True, False])
def test_an_engine_that_packs_its_answer_has_failed(stream, unpacked) -> None:
    async def packed(_):
        return web.Response(body=ZEROS, headers=PACKED)

    async def work(session, engines):
        async with session.post("/v1/completions", json={
                "prompt": "x", "max_tokens": 5, "stream": stream}) as answer:
            return answer.status, await answer.text()

    status, said = odd.before([packed], work)
    assert status == 502
    assert "packed its answer ('gzip') unasked" in said
    assert sum(unpacked) == 0
