"""Servers on the loopback that answer in any way a test wants, well or badly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DONE = b"data: [DONE]\n\n"


def event(document: Any) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def token(text: str, finish_reason: str | None = None, **more: Any) -> bytes:
    """One event of /v1/completions."""
    return event({"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}], **more})


def usage(prompt: int, output: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


@asynccontextmanager
async def http_engine(answer: Handler, model: str = "fake",
                      metrics: str | None = None) -> AsyncIterator[str]:
    """The URL of a server whose completions and chats are what ``answer`` makes of a request."""
    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": model}]})

    async def numbers(_: web.Request) -> web.Response:
        return web.Response(text=metrics or "", status=200 if metrics is not None else 404)

    app = web.Application()
    for path in ("/v1/completions", "/v1/chat/completions"):
        app.router.add_post(path, answer)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/metrics", numbers)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def streaming(*parts: bytes, kind: str = "text/event-stream") -> Handler:
    """Answers with these bytes, written one by one."""
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    return answer


def whole(document: Any, status: int = 200, **headers: str) -> Handler:
    """Answers with one JSON document."""
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(document), status=status,
                            content_type="application/json", headers=headers)

    return answer


@asynccontextmanager
async def raw_engine(parts: Sequence[bytes], *, stay_open: bool = False) -> AsyncIterator[str]:
    """The URL of a socket that sends these bytes to whoever asks, then hangs or hangs up."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
            while stay_open and await reader.read(1 << 16):
                pass
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        if serving:
            await asyncio.wait(serving, timeout=5)


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    """A URL where nobody listens."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    yield f"http://127.0.0.1:{port}"


HEAD = (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


def chunk(data: bytes) -> bytes:
    """A chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
