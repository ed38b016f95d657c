"""Servers that load and unload as vLLM, Ollama and llama.cpp's router do on the wire.

Written from vLLM 0.32's dev endpoints, Ollama's API documentation and the README of llama.cpp's
server. Each notes what it was asked, in order.
"""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@asynccontextmanager
async def serving(app):
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def completion(text):
    return web.json_response({
        "object": "text_completion", "model": "x",
        "choices": [{"index": 0, "text": text, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}})


@dataclass
class SleepingVllm:
    """vLLM with sleep mode, asleep at first unless ``awake``: weights and KV cache apart."""

    name: str = "m"
    awake: set = field(default_factory=set)
    discarded: bool = False
    dev_mode: bool = True
    stays_awake: bool = False
    asked: list = field(default_factory=list)
    adapters: dict = field(default_factory=dict)
    """Paths of loaded adapters by name, which are lost while it sleeps."""

    @property
    def sleeps(self):
        return self.awake != {"weights", "kv_cache"}

    def app(self):
        app = web.Application()
        if self.dev_mode:
            app.router.add_post("/sleep", self._sleep)
            app.router.add_post("/wake_up", self._wake)
            app.router.add_get("/is_sleeping", self._is_sleeping)
            app.router.add_post("/collective_rpc", self._rpc)
        app.router.add_post("/v1/completions", self._answer)
        app.router.add_post("/v1/load_lora_adapter", self._load_adapter)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _load_adapter(self, request):
        body = await request.json()
        self.asked.append(f"load {body['lora_name']}")
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success")

    async def _models(self, _):
        return web.json_response({"data": [{"id": self.name, "parent": None}, *(
            {"id": name, "root": path, "parent": self.name}
            for name, path in self.adapters.items())]})

    async def _sleep(self, request):
        level = int(request.query.get("level", 1))
        self.asked.append(f"sleep {level}")
        if not self.stays_awake:
            self.awake.clear()
            self.adapters.clear()
            self.discarded = level == 2
        return web.json_response({"status": "sleeping", "level": level})

    async def _wake(self, request):
        tags = request.query.getall("tags", ["weights", "kv_cache"])
        self.asked.append("wake " + ",".join(tags))
        self.awake.update(tags)
        return web.json_response({"status": "sleeping" if self.sleeps else "awake", "tags": tags})

    async def _is_sleeping(self, _):
        return web.json_response({"is_sleeping": self.sleeps})

    async def _rpc(self, request):
        body = await request.json()
        self.asked.append(body["method"])
        assert "weights" in self.awake, "there is no room for them"
        self.discarded = False
        return web.json_response({"results": [None]})

    async def _answer(self, request):
        if self.sleeps or self.discarded:
            return web.json_response({"error": {"message": "asleep"}}, status=503)
        asked = (await request.json())["model"]
        adapter = f" with {asked}" if asked in self.adapters else ""
        return completion(f"from {self.name}{adapter}")


@dataclass
class SwappingOllama:
    """Ollama with room for ``room`` models; unloading takes until it was asked again."""

    known: tuple = ("a:latest", "b:latest")
    room: int = 1
    loaded: list = field(default_factory=list)
    leaving: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def app(self):
        app = web.Application()
        app.router.add_get("/api/ps", self._ps)
        app.router.add_get("/api/version", self._version)
        app.router.add_post("/api/generate", self._generate)
        return app

    async def _version(self, _):
        return web.json_response({"version": "0.12.6"})

    async def _ps(self, _):
        shown = [{"name": name, "model": name} for name in (*self.loaded, *self.leaving)]
        self.leaving.clear()
        return web.json_response({"models": shown})

    async def _generate(self, request):
        body = await request.json()
        name = body["model"] if ":" in body["model"] else f"{body['model']}:latest"
        self.asked.append((name, body.get("prompt", ""), body.get("keep_alive")))
        if name not in self.known:
            return web.json_response({"error": f"model '{body['model']}' not found"}, status=404)
        if body.get("keep_alive") == 0 and not body.get("prompt"):
            if name in self.loaded:
                self.loaded.remove(name)
                self.leaving.append(name)
            return web.json_response({"model": name, "response": "", "done": True,
                                      "done_reason": "unload"})
        if name not in self.loaded:
            self.loaded = [*self.loaded, name][-self.room:]
        reason = "stop" if body.get("prompt") else "load"
        return web.json_response({
            "model": name, "created_at": "2026-11-21T10:00:00Z", "done": True,
            "response": f"from {name}" if body.get("prompt") else "", "done_reason": reason,
            "prompt_eval_count": 2, "eval_count": 3})


@dataclass
class LlamaRouter:
    """llama.cpp's server as a router; a load takes ``slow`` looks at the list."""

    known: tuple = ("a", "b")
    broken: tuple = ()
    slow: int = 2
    status: dict = field(default_factory=dict)
    left: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)

    def app(self):
        app = web.Application()
        app.router.add_get("/models", self._list)
        app.router.add_post("/models/load", self._load)
        app.router.add_post("/models/unload", self._unload)
        return app

    async def _list(self, _):
        for name, left in self.left.items():
            self.left[name] = left - 1
            if left == 1 and self.status[name]["value"] == "loading":
                self.status[name] = {"value": "unloaded", "failed": True, "exit_code": 1} \
                    if name in self.broken else {"value": "loaded"}
        return web.json_response({"data": [
            {"id": name, "status": self.status.get(name, {"value": "unloaded"})}
            for name in self.known]})

    async def _load(self, request):
        name = (await request.json())["model"]
        self.asked.append(("load", name))
        self.status[name], self.left[name] = {"value": "loading"}, self.slow
        return web.json_response({"success": True})

    async def _unload(self, request):
        name = (await request.json())["model"]
        self.asked.append(("unload", name))
        self.status[name] = {"value": "unloaded"}
        return web.json_response({"success": True})


@asynccontextmanager
async def never():
    """The URL of a server that takes a request and says nothing."""
    async def wait(_):
        await asyncio.sleep(3600)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", wait)
    async with serving(app) as url:
        yield url
