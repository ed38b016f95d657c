"""A proxy on the loopback between one controller and the API server, which makes faults."""

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
import yaml
from aiohttp import web

from penstock.engines.http import listening

REASONS = {409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}
_PASSED = ("Authorization", "Content-Type", "Accept")


class Change(NamedTuple):
    """A request that changed an object, other than a Lease, when it came and what it got."""

    at_s: float
    method: str
    path: str
    status: int


def status_document(code, message="a fault of the test"):
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": REASONS[code],
            "message": message, "code": code}


def is_watch(request):
    return request.query.get("watch") == "true"


def is_change(request):
    return request.method != "GET" and "/leases" not in request.path


class KubeProxy:
    """Passes requests on. ``fault`` is a function of a request that returns None, an HTTP status,
    ``"hang"`` (no answer) or ``"cut"`` (the connection ends). ``down`` cuts all connections."""

    def __init__(self, kubeconfig):
        self.config = yaml.safe_load(kubeconfig.read_text())
        self.fault = lambda request: None
        self.down = False
        self.retry_after_s = 1
        self.made, self.changes = [], []
        self._watches = set()
        cluster = self.config["clusters"][0]["cluster"]
        self._upstream = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])

    @asynccontextmanager
    async def server(self, folder, name="proxy"):
        """Yield the kubeconfig of the proxy."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            self._session = session
            async with listening(app, "127.0.0.1", 0, 0.1) as url:
                config = {**self.config, "clusters": [
                    {**self.config["clusters"][0], "cluster": {"server": url}}]}
                path = folder / f"{name}.kubeconfig"
                path.write_text(yaml.safe_dump(config))
                yield path

    def end_watches(self, code=None):
        """End every watch, with the event of an error if there is a code."""
        for queue in self._watches:
            queue.put_nowait(code)

    def cut(self):
        """Cut all connections, and take no new ones."""
        self.down = True
        self.end_watches()

    async def _handle(self, request):
        body, at_s = await request.read(), time.monotonic()
        found = "cut" if self.down else self.fault(request)
        if found is not None:
            self.made.append((found, request.method, request.path))
            return await self._wrong(request, found)
        headers = {key: request.headers[key] for key in _PASSED if key in request.headers}
        try:
            async with self._session.request(
                    request.method, self._upstream + request.path_qs, data=body or None,
                    headers=headers) as answer:
                if is_watch(request) and answer.status == 200:
                    return await self._stream(request, answer)
                data = await answer.read()
                if is_change(request):
                    self.changes.append(Change(at_s, request.method, request.path, answer.status))
                if self.down:
                    request.transport.abort()
                return web.Response(status=answer.status, body=data,
                                    content_type=answer.content_type)
        except aiohttp.ClientError:
            request.transport.abort()
            return web.Response(status=500)

    async def _wrong(self, request, found):
        if found == "hang":
            await asyncio.sleep(3600.0)
        if found == "cut":
            request.transport.abort()
            return web.Response(status=500)
        if is_watch(request):  # as API servers say it
            line = {"type": "ERROR", "object": status_document(found)}
            return web.Response(text=json.dumps(line) + "\n", content_type="application/json")
        headers = {"Retry-After": str(self.retry_after_s)} if found == 429 else {}
        return web.json_response(status_document(found), status=found, headers=headers)

    async def _stream(self, request, answer):
        back = web.StreamResponse(headers={"Content-Type": "application/json"})
        await back.prepare(request)
        ends = asyncio.Queue()
        self._watches.add(ends)
        pump = asyncio.create_task(self._pump(answer, back))
        told = asyncio.create_task(ends.get())
        try:
            await asyncio.wait({pump, told}, return_when=asyncio.FIRST_COMPLETED)
            code = told.result() if told.done() else None
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            if code is not None:
                line = {"type": "ERROR", "object": status_document(code)}
                await back.write(json.dumps(line).encode() + b"\n")
            elif self.down:
                request.transport.abort()
        finally:
            self._watches.discard(ends)
            for task in (pump, told):
                task.cancel()
            await asyncio.gather(pump, told, return_exceptions=True)
        return back

    async def _pump(self, answer, back):
        async for chunk in answer.content.iter_any():
            await back.write(chunk)
