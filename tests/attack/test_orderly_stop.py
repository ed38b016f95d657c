"""A server that is told to stop answers what it has accepted."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from aiohttp import web

from penstock.engines.http import listening

NUM = 300
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"


async def answer(request):
    await request.read()
    await asyncio.sleep(0.05)
    return web.Response(text="here")


async def burst(port, begun):
    """The answer to a request whose body comes a little after its head, on a new connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun.append(port)
    writer.write(HEAD)
    await asyncio.sleep(0.02)
    writer.write(b"{}")
    heard = await reader.read()
    writer.close()
    return heard


async def again(port, begun):
    """The answers to two requests on one connection; the second may come as the server stops."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun.append(port)
    writer.write(HEAD + b"{}")
    first = await reader.readuntil(b"here")
    if b"connection: close" not in first.lower():
        writer.write(HEAD + b"{}")
    rest = await reader.read()
    writer.close()
    return first, rest


def stopped_amid(client):
    async def run():
        app = web.Application()
        app.router.add_post("/", answer)
        begun = []
        async with listening(app, "127.0.0.1", 0, 5.0, settle_s=0.3) as url:
            tasks = [asyncio.create_task(client(int(url.rpartition(":")[2]), begun))
                     for _ in range(NUM)]
            while len(begun) < NUM:
                await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 60))


def test_every_connection_that_was_accepted_gets_its_answer() -> None:
    heard = stopped_amid(burst)
    assert [one for one in heard if isinstance(one, Exception) or b" 200 OK" not in one] == []
    assert any(b"connection: close" in one.lower() for one in heard)


def test_a_connection_that_is_kept_is_told_that_it_ends() -> None:
    heard = stopped_amid(again)
    wrong = [one for one in heard if isinstance(one, Exception)
             or (b"connection: close" not in one[0].lower() and b" 200 OK" not in one[1])]
    assert wrong == []
