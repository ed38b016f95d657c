"""The HTTP side of the gateway (aiohttp, extra ``serve``)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

import aiohttp
from aiohttp import web

from penstock.engine.http import errors_told, json_response, listening
from penstock.engine.live.state import EngineFacts, EngineState
from penstock.engine.live.watch import Watcher
from penstock.engine.parts import relative_speeds
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.gateway.ask import Offer, read_ask
from penstock.gateway.choice import Chooser
from penstock.gateway.errors import GatewayError
from penstock.gateway.metrics import GatewayMetrics
from penstock.gateway.proxy import Limits, Proxy
from penstock.policy.route.protocol import Router

MAX_BODY_BYTES = 32 * 2**20
_GOODBYE_S = 60.0  # for answers that are under way


def engines_of(fleet: Fleet) -> list[EngineState]:
    """The engines of a fleet that have an endpoint, numbered as the fleet's replicas are."""
    found: list[EngineState] = []
    speeds = iter(relative_speeds(fleet))
    replica_id = 0
    for group in fleet.replicas:
        for number in range(group.count):
            speed = next(speeds)
            if group.endpoints:
                classes = group.service_classes
                found.append(EngineState(EngineFacts(
                    replica_id, group.endpoints[number], group.model.name,
                    None if classes is None else frozenset(classes), kv_tokens(fleet, group),
                    speed, group.engine, group.served_as)))
            replica_id += 1
    return found


def offer_of(fleet: Fleet) -> Offer:
    """What may be asked of a fleet: of its models, those that an engine serves."""
    served = {group.model.name for group in fleet.replicas if group.endpoints}
    return Offer({c.name: c for c in fleet.service_classes},
                 {m.spec.name: m.spec.max_context_tokens for m in fleet.models
                  if m.spec.name in served}, fleet.gateway.aliases)


class Gateway:
    """OpenAI's API over a fleet's engines."""

    def __init__(self, fleet: Fleet, engines: Sequence[EngineState], router: Router,
                 session: aiohttp.ClientSession, limits: Limits,
                 on_bug: Callable[[str], None]) -> None:
        self._offer = offer_of(fleet)
        self._metrics = GatewayMetrics()
        self._chooser = Chooser(engines, router)
        self._proxy = Proxy(self._chooser, session, self._metrics, limits, time.monotonic,
                            time.time)
        self._on_bug = on_bug
        self._started = int(time.time())

    def app(self, max_body_bytes: int = MAX_BODY_BYTES) -> web.Application:
        """The application. Its runner must cancel handlers whose client has gone."""
        app = web.Application(client_max_size=max_body_bytes,
                              middlewares=[errors_told(_wrong, self._on_bug)])
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
            app.router.add_post(path, self._relay)
        app.router.add_get("/v1/models", self._list)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._text)
        app.router.add_get("/v1/penstock/status", self._status)
        app.router.add_get("/v1/penstock/decisions/{id}", self._decision)
        return app

    async def _relay(self, http: web.Request) -> web.StreamResponse:
        ask = read_ask(await http.read(), http.headers, self._offer)
        return await self._proxy.answer(http, http.path, ask, f"dec-{uuid4().hex}")

    async def _list(self, _: web.Request) -> web.Response:
        models = self._offer.models
        return json_response({"object": "list", "data": [
            {"id": name, "object": "model", "created": self._started, "owned_by": "penstock",
             **({"max_model_len": models[name]} if name in models else {})}
            for name in self._offer.names()]})

    async def _health(self, _: web.Request) -> web.Response:
        now_s = time.monotonic()
        able = any(engine.unavailable(now_s) is None for engine in self._chooser.engines)
        return web.Response(status=200 if able else 503)

    async def _text(self, _: web.Request) -> web.Response:
        now_s = time.monotonic()
        for engine in self._chooser.engines:
            self._metrics.in_flight.labels(engine.facts.url).set(len(engine.in_flight))
            self._metrics.available.labels(engine.facts.url).set(
                engine.unavailable(now_s) is None)
        return web.Response(body=self._metrics.text(), headers={
            "Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _status(self, _: web.Request) -> web.Response:
        now_s = time.monotonic()
        return json_response({"engines": [
            {"url": e.facts.url, "model": e.facts.model, "unavailable": e.unavailable(now_s),
             "seen_s_ago": None if e.observed_at_s == float("-inf") else now_s - e.observed_at_s,
             "num_in_flight": len(e.in_flight), "num_served": e.num_served,
             "num_failed": e.num_failed} for e in self._chooser.engines]})

    async def _decision(self, request: web.Request) -> web.Response:
        found = self._chooser.find(request.match_info["id"])
        if found is None:
            raise GatewayError(404, "no such decision among the last ones", "not_found")
        return json_response(found.document())


@asynccontextmanager
async def running(fleet: Fleet, router: Router, host: str, port: int, *,
                  limits: Limits, on_bug: Callable[[str], None] = lambda _: None
                  ) -> AsyncIterator[tuple[str, list[EngineState]]]:
    """A gateway that listens: its URL and its engines. Stops on leaving. Raises InputError where
    nobody can listen."""
    engines = engines_of(fleet)
    # Answers go on as they came: nothing is unpacked, no cookie is kept.
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0),
                                     cookie_jar=aiohttp.DummyCookieJar()) as session:
        watcher = Watcher(engines, session, time.monotonic)
        await watcher.look()
        watching = asyncio.create_task(watcher.run())
        gateway = Gateway(fleet, engines, router, session, limits, on_bug)
        try:
            async with listening(gateway.app(), host, port, _GOODBYE_S) as url:
                yield url, engines
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


def _wrong(status: int, message: str) -> GatewayError:
    if status == 500:
        return GatewayError(status, f"{message}; please report it", "bug")
    return GatewayError(status, message, "http_error")
