"""A server that behaves as Ollama's API does on the wire, from lines written down beforehand."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import orjson
from aiohttp import web

LAST = {"model": "llama3.1:8b", "created_at": "2026-11-21T10:00:01Z", "done": True,
        "done_reason": "stop", "total_duration": 2_500_000_000, "load_duration": 1_500_000_000,
        "prompt_eval_count": 11, "prompt_eval_duration": 200_000_000, "eval_count": 3,
        "eval_duration": 600_000_000}


def chat_lines(*texts, **last):
    head = {"model": "llama3.1:8b", "created_at": "2026-11-21T10:00:00Z"}
    lines = [{**head, "message": {"role": "assistant", "content": text}, "done": False}
             for text in texts]
    return [*lines, {**LAST, "message": {"role": "assistant", "content": ""}, **last}]


def generate_lines(*texts, **last):
    head = {"model": "llama3.1:8b", "created_at": "2026-11-21T10:00:00Z"}
    return [*({**head, "response": text, "done": False} for text in texts),
            {**LAST, "response": "", **last}]


def wire(lines):
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@dataclass
class Ollama:
    """What it is to answer, and what it was asked. ``cut`` bytes go in each write; ``hold`` keeps
    the answer back after its first line until it is set."""

    lines: list = field(default_factory=lambda: chat_lines("Ri", "ver", "s"))
    status: int = 200
    loaded: tuple = ("llama3.1:8b",)
    cut: int = 10_000
    hold: asyncio.Event | None = None
    asked: list = field(default_factory=list)
    url: str = ""

    async def _version(self, _):
        return web.json_response({"version": "0.12.6"})

    async def _ps(self, _):
        return web.json_response({"models": [
            {"name": name, "model": name, "size": 5_137_025_024, "size_vram": 5_137_025_024,
             "expires_at": "2026-11-21T10:05:00Z"} for name in self.loaded]})

    async def _answer(self, request):
        body = await request.json()
        self.asked.append((request.path, body))
        if self.status != 200:
            return web.json_response({"error": "said no"}, status=self.status)
        if not body.get("stream", True):
            return web.json_response(self.lines[0] if len(self.lines) == 1 else {
                **self.lines[-1], "message": {"role": "assistant", "content": "".join(
                    line.get("message", {}).get("content", "") for line in self.lines)},
                "response": "".join(line.get("response", "") for line in self.lines)})
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        data = wire(self.lines)
        for start in range(0, len(data), self.cut):
            await response.write(data[start:start + self.cut])
            await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
        return response

    async def _embed(self, request):
        self.asked.append((request.path, await request.json()))
        return web.json_response({"model": "llama3.1:8b", "embeddings": [[0.25, 0.5]],
                                  "total_duration": 14_143_917, "load_duration": 1_019_500,
                                  "prompt_eval_count": 8})

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/ps", self._ps)
        app.router.add_post("/api/chat", self._answer)
        app.router.add_post("/api/generate", self._answer)
        app.router.add_post("/api/embed", self._embed)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()
