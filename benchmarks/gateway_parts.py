"""Processes that ``gateway.py`` measures with: an upstream that answers from memory, a bare relay
of aiohttp, a client that holds many streams open, and a client that keeps a pace."""

import asyncio
import logging
import random
import sys
import time
from collections import Counter

import aiohttp
import orjson
from aiohttp import web

NUM_CHUNKS = 17
_PATH = "/v1/chat/completions"


def chunks() -> list[bytes]:
    """The events of one chat answer: a role, 14 tokens, the finish, the usage; [DONE] beside the
    last."""
    def event(choices: list[dict[str, object]], **more: object) -> bytes:
        return b"data: " + orjson.dumps({
            "id": "chatcmpl-0123456789abcdef", "object": "chat.completion.chunk",
            "created": 1_700_000_000, "model": "llama-3-8b", "choices": choices, **more}) + b"\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, object]]:
        return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]

    num_tokens = NUM_CHUNKS - 3
    found = [event(choice({"role": "assistant", "content": ""}))]
    found += [event(choice({"content": f" token{n}"})) for n in range(num_tokens)]
    found.append(event(choice({}, "stop")))
    found.append(event([], usage={"prompt_tokens": 9, "completion_tokens": num_tokens,
                                  "total_tokens": 9 + num_tokens}) + b"data: [DONE]\n\n")
    return found


class Upstream(asyncio.Protocol):
    """Answers every POST with the same stream: in one piece (``pace_s`` of None), or a chunk each
    ``pace_s``; 0 is a chunk in every turn of the event loop, each with a write of its own."""

    def __init__(self, pace_s: float | None) -> None:
        self._pace_s = pace_s
        self._buffer = b""
        self._frames = [b"%x\r\n%b\r\n" % (len(one), one) for one in chunks()]
        self._head = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                      b"Transfer-Encoding: chunked\r\n\r\n")
        self._whole = self._head + b"".join(self._frames) + b"0\r\n\r\n"

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            length = 0
            if (at := head.find(b"content-length:")) >= 0:
                length = int(head[at + 15:].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length:]
            if head.startswith(b"post"):
                self._answer()
            else:
                status = b"200 OK" if head.startswith(b"get /health") else b"404 Not Found"
                self._transport.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)

    def _answer(self):
        if self._pace_s is None:
            self._transport.write(self._whole)
            return
        self._transport.write(self._head)
        self._next(0)

    def _next(self, number):
        if self._transport.is_closing():
            return
        if number == len(self._frames):
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(self._frames[number])
        loop = asyncio.get_running_loop()
        if self._pace_s:
            loop.call_later(self._pace_s, self._next, number + 1)
        else:
            loop.call_soon(self._next, number + 1)


async def serve_upstream(pace_s: float | None, port: int = 0) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Upstream(pace_s), "127.0.0.1", port, backlog=4096)
    _ready(server.sockets[0].getsockname()[1])
    await asyncio.Event().wait()


async def serve_faulty(seed: int) -> None:
    """An engine that does well half of the time, and counts what it does instead."""
    chance, counts = random.Random(seed), Counter()
    pieces = chunks()
    kinds = ("well", "500", "503", "429 with Retry-After", "reset at once", "reset in the middle",
             "silence, then reset", "ends in the middle", "garbage", "garbage in the middle",
             "slow")

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        kind = chance.choices(kinds, (10, *[1] * (len(kinds) - 1)))[0]
        counts[kind] += 1
        if kind in ("500", "503"):
            return web.Response(status=int(kind))
        if kind.startswith("429"):
            return web.Response(status=429, headers={"Retry-After": "1"})
        if kind == "garbage":
            return web.Response(body=b"\x00<html>" * 40)
        if kind in ("reset at once", "silence, then reset"):
            await asyncio.sleep(0.0 if kind == "reset at once" else 1.0)
            request.transport.abort()
            return web.Response()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, piece in enumerate(pieces):
            await response.write(piece)
            await asyncio.sleep(0.05 if kind == "slow" else 0.002)
            if number == 5 and kind.endswith("in the middle"):
                if kind.startswith("reset"):
                    request.transport.abort()
                elif kind.startswith("garbage"):
                    await response.write(b"data: {no json\n\n")
                return response
        return response

    async def well(_: web.Request) -> web.Response:
        return web.Response()

    async def told(_: web.Request) -> web.Response:
        return web.json_response(counts)

    app = web.Application()
    app.router.add_post(_PATH, answer)
    app.router.add_get("/health", well)
    app.router.add_get("/counts", told)
    await _serving(app)


async def serve_bare(upstream: str) -> None:
    """The least that an aiohttp relay can do: nothing is read, nothing decided, nothing counted."""
    timeout = aiohttp.ClientTimeout(total=None)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)

    async def relay(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        async with session.post(upstream + request.path, data=body, headers={
                "Content-Type": "application/json"}) as answer:
            response = web.StreamResponse(headers={
                "Content-Type": "text/event-stream; charset=utf-8"})
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response

    app = web.Application()
    app.router.add_post(_PATH, relay)
    await _serving(app)


async def _serving(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    _ready(runner.addresses[0][1])
    await asyncio.Event().wait()


async def hold(url: str, num_streams: int, body: bytes) -> None:
    """Open streams, say so when the first chunk of each has come, hold until a line comes in."""
    opened, all_open = 0, asyncio.Event()
    address = url.removeprefix("http://").split(":")

    async def one() -> None:
        nonlocal opened
        reader, writer = await asyncio.open_connection(address[0], int(address[1]))
        writer.write(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     b"Content-Length: %d\r\n\r\n%b" % (_PATH.encode(), len(body), body))
        await reader.readuntil(b"data: ")
        opened += 1
        if opened == num_streams:
            all_open.set()
        while await reader.read(65536):
            pass

    begun = time.monotonic()
    tasks = []
    for number in range(num_streams):
        tasks.append(asyncio.create_task(one()))
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    await asyncio.wait_for(all_open.wait(), 300)
    _ready(int(1000 * (time.monotonic() - begun)))
    await asyncio.to_thread(sys.stdin.readline)


class _Line(asyncio.Protocol):
    """A connection of a client that keeps a pace: one request at a time."""

    def connection_made(self, transport):
        self.transport, self.ended, self._last = transport, None, b""

    def data_received(self, data):
        self._last = (self._last + data)[-16:]
        if self._last.endswith(b"\r\n0\r\n\r\n") and self.ended is not None:
            ended, self.ended, self._last = self.ended, None, b""
            ended()

    def connection_lost(self, error):
        if self.ended is not None:
            raise SystemExit("a connection was lost in the middle of an answer")


async def keep_pace(url: str, rate: int, seconds: int, body: bytes, key: str) -> None:
    """Send requests when they are due, and print quantiles of the times (ms) from then to the ends
    of the answers."""
    loop, (host, port) = asyncio.get_running_loop(), url.removeprefix("http://").split(":")
    request = (b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
               b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b" % (
                   _PATH.encode(), key.encode(), len(body), body))
    idle = [(await loop.create_connection(_Line, host, int(port)))[1] for _ in range(64)]
    times_s, num = [], rate * seconds
    all_ended = asyncio.Event()

    async def ask(due_s: float) -> None:
        line = idle.pop() if idle else (await loop.create_connection(_Line, host, int(port)))[1]

        def ended() -> None:
            times_s.append(time.monotonic() - due_s)
            idle.append(line)
            if len(times_s) == num:
                all_ended.set()

        line.ended = ended
        line.transport.write(request)

    begun_s, tasks = time.monotonic(), set()
    for number in range(num):
        due_s = begun_s + number / rate
        if (wait_s := due_s - time.monotonic()) > 0.0:
            await asyncio.sleep(wait_s)
        tasks.add(task := loop.create_task(ask(due_s)))
        task.add_done_callback(tasks.discard)
    await asyncio.wait_for(all_ended.wait(), 30)
    times_s.sort()
    print(orjson.dumps({f"p{share}": 1000 * times_s[min(num - 1, num * share // 100)]
                        for share in (50, 90, 99)}).decode(), flush=True)


def _ready(number: int) -> None:
    print(number, flush=True)


def main() -> None:
    logging.disable()  # of clients that leave in the middle of an answer, as wrk does at its end
    part, *arguments = sys.argv[1:]
    if part == "upstream":
        work = serve_upstream(float(arguments[0]) if arguments else None,
                              *map(int, arguments[1:]))
    elif part == "faulty":
        work = serve_faulty(int(arguments[0]))
    elif part == "bare":
        work = serve_bare(arguments[0])
    elif part == "paced":
        url, rate, seconds, body, *key = arguments
        work = keep_pace(url, int(rate), int(seconds), body.encode(), key[0] if key else "none")
    else:
        work = hold(arguments[0], int(arguments[1]), arguments[2].encode())
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
