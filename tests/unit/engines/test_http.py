"""What every server of ours does with requests that are no HTTP."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp import web

from penstock.engines.http import HttpError, json_errors, listening
from penstock.engines.http_body import read_body

SECRET = b"sk-a-key-that-was-sent-by-mistake"


@pytest.mark.parametrize("content", [
    b"GET / HTTP/1.1\r\nX-Key %b\r\n\r\n" % SECRET,
    b"POST / HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % SECRET,
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n\r\n" % SECRET])
def test_malformed_http_is_answered_400_without_a_trace(content, caplog) -> None:
    async def run():
        async with listening(web.Application(), "127.0.0.1", 0, 0.1) as url:
            heard = []
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1",
                                                               int(url.rpartition(":")[2]))
                writer.write(content)
                heard.append(await reader.read())
                writer.close()
            return heard

    heard = asyncio.run(run())
    assert all(b" 400 " in answer for answer in heard)
    assert [record.getMessage() for record in caplog.records] == [
        "malformed HTTP was answered 400 (times: 1)"]
    assert SECRET.decode() not in caplog.text
    assert "Traceback" not in caplog.text


def test_a_body_that_is_not_packed_as_its_head_says_leaves_no_trace(caplog) -> None:
    def wrong(request, status, message):
        error = HttpError(status, message)
        error.document = lambda: {"message": message}
        return error

    async def read(request):
        await read_body(request)

    async def run():
        bugs = []
        app = web.Application(middlewares=[json_errors(wrong, bugs.append)])
        app.router.add_post("/", read)
        async with listening(app, "127.0.0.1", 0, 0.1) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                         b"Content-Encoding: gzip\r\nContent-Length: 33\r\n\r\n" + SECRET)
            heard = await reader.read()
            writer.close()
        return heard, bugs

    heard, bugs = asyncio.run(run())
    assert (b" 400 " in heard, bugs) == (True, [])
    assert "Traceback" not in caplog.text
