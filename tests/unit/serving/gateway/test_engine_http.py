"""Requests to engines: what is sent, how answers end, and which connections are used again."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest

from penstock.serving.gateway.engine_http import EngineHttp, engine_connector

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Engine:
    """A server that answers each request with the next script: pieces, of which None closes the
    connection."""

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.requests, self.serving = [], set()
        self.num_connections = self.num_closed = 0

    async def serve(self, reader, writer):
        self.num_connections += 1
        self.serving.add(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                for piece in self.scripts.pop(0):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.num_closed += 1
        finally:
            writer.close()


@asynccontextmanager
async def asking(engine):
    """A function that posts to the engine."""
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(connector=engine_connector(True)) as session:
        http = EngineHttp(session, 3.0)

        async def post(body=b"{}", headers=None, user=""):
            return await http.post(f"http://{user}127.0.0.1:{port}", "/v1/x", headers or {}, body)

        yield post
    await asyncio.sleep(0)  # the server hears of closed connections
    server.close()
    await asyncio.gather(*engine.serving)


async def rest_of(answer):
    found = b""
    while piece := await answer.read():
        found += piece
    assert answer.at_end
    return found


async def text_of(answer):
    with answer:
        return await rest_of(answer)


def answers(*scripts, times=1):
    """The texts of answers to as many requests, one after the other, and the engine."""
    engine = Engine(*scripts)

    async def run():
        async with asking(engine) as post:
            return [await text_of(await post()) for _ in range(times)]

    return asyncio.run(run()), engine


@pytest.mark.parametrize(("script", "expected"), [
    ([WHOLE], b"body"),
    ([WHOLE[:20], WHOLE[20:-2], WHOLE[-2:]], b"body"),
    ([CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r", b"\n0\r\n\r\n"], b"abcde"),
    ([CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"], b"abc"),
    ([CHUNKED.replace(b"\r\n", b"\n") + b"3  \r\nabc\r\n0\r\n\r\n"], b"abc"),
    ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
    ([b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n", WHOLE], b"body"),
    ([b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE], b"body")])
def test_an_answer_ends_where_its_head_says_and_the_connection_is_used_again(script, expected):
    found, engine = answers(script, script, times=2)
    assert found == [expected, expected]
    assert engine.num_connections == 1


@pytest.mark.parametrize("script", [
    [b"HTTP/1.1 200 OK\r\n\r\nbo", b"dy", None],
    [WHOLE.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")],
    [WHOLE + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"],
    [WHOLE + b"garbage"],
    [WHOLE.replace(b"HTTP/1.1", b"HTTP/1.0")]])
def test_a_connection_of_which_more_or_nothing_may_come_is_not_used_again(script):
    found, engine = answers(script, [WHOLE], times=2)
    assert found == [b"body", b"body"]
    assert engine.num_connections == 2


@pytest.mark.parametrize(("script", "error"), [
    ([None], aiohttp.ServerDisconnectedError),
    ([b"HTTP/1.1 200 OK\r\nCont", None], aiohttp.ServerDisconnectedError),
    ([b"<html>no HTTP</html>"], aiohttp.ClientPayloadError),
    ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
     aiohttp.ClientPayloadError),
    ([b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 8192] * 20], aiohttp.ClientPayloadError)])
def test_what_has_no_head_is_a_fault(script, error):
    engine = Engine(script)

    async def run():
        async with asking(engine) as post:
            with pytest.raises(error):
                await post()

    asyncio.run(run())


@pytest.mark.parametrize("rest", [
    [None], [b"5\r\n", None], [b"not a length\r\n"], [b"3\r\nxyzz\r\n"]])
def test_what_came_of_a_broken_answer_is_read_before_its_fault(rest):
    engine = Engine([CHUNKED + b"3\r\nabc\r\n", *rest])

    async def run():
        async with asking(engine) as post:
            with await post() as answer:
                assert (await answer.read()).startswith(b"abc")
                with pytest.raises(aiohttp.ClientPayloadError):
                    await rest_of(answer)

    asyncio.run(run())


def test_an_answer_that_is_left_closes_its_connection():
    engine = Engine([CHUNKED + b"3\r\nabc\r\n", b""])

    async def run():
        async with asking(engine) as post:
            with await post() as answer:
                assert await answer.read() == b"abc"
                assert not answer.at_end
            while not engine.num_closed:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_error_from_outside_ends_an_answer():
    engine = Engine([CHUNKED])

    async def run():
        async with asking(engine) as post:
            with await post() as answer:
                asyncio.get_running_loop().call_soon(answer.fail, TimeoutError())
                with pytest.raises(TimeoutError):
                    await answer.read()

    asyncio.run(run())


def test_an_engine_waits_for_a_gateway_that_does_not_read():
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    engine = Engine([CHUNKED, *[piece] * 400, b"0\r\n\r\n"], [WHOLE])

    async def run():
        async with asking(engine) as post:
            with await post() as answer:
                await asyncio.sleep(0.3)
                waiting = await answer.read()
                found = len(waiting + await rest_of(answer))
            assert await text_of(await post()) == b"body"
            return len(waiting), found

    waiting, found = asyncio.run(run())
    assert waiting < 2**20, "26 MB were to come"
    assert found == 400 * 65536
    assert engine.num_connections == 1


@pytest.mark.parametrize("size", [2, 300_000])
def test_a_request_has_its_body_its_headers_and_the_right_of_its_url(size):
    engine = Engine([WHOLE])

    async def run():
        async with asking(engine) as post:
            await text_of(await post(b"x" * size, {"X-Request-Id": "dec-1"}, "me:secret@"))

    asyncio.run(run())
    head, _, body = engine.requests[0].partition(b"\r\n\r\n")
    assert body == b"x" * size
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /v1/x HTTP/1.1"
    assert {b"X-Request-Id: dec-1", b"Content-Type: application/json",
            b"Authorization: Basic bWU6c2VjcmV0"} < set(lines)
    assert sum(line.lower().startswith(b"host: 127.0.0.1:") for line in lines) == 1


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nX: b", "a\rX: b"])
def test_no_header_makes_another(value):
    engine = Engine([WHOLE])

    async def run():
        async with asking(engine) as post:
            with pytest.raises(ValueError, match="line break"):
                await post(headers={"traceparent": value})

    asyncio.run(run())
    assert engine.requests == []
