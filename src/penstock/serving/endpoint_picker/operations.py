"""Health, metrics and decisions of an endpoint picker over HTTP."""

from typing import Any
from urllib.parse import quote

from aiohttp import web

from penstock.engines.http import METRICS_HEADERS, Handler, json_response
from penstock.serving.application import Part
from penstock.serving.endpoint_picker.account import Books
from penstock.serving.endpoint_picker.server import Health
from penstock.serving.errors import ServiceError
from penstock.serving.workers.workers import Workers

_MOST_BODY_BYTES = 1024  # no operation has a body
_SUMMARIES = {
    "/health": "Whether the process lives",
    "/ready": "Status 200 once an engine was seen, 503 before and while the picker stops",
    "/metrics": "Metrics for Prometheus",
    "/v1/penstock/decisions/{id}": "A decision, by the answer's header x-penstock-decision",
}


def operations(books: Books, health: Health) -> Part:
    """Return the HTTP operations of an endpoint picker."""
    async def alive(_: web.Request) -> web.Response:
        return web.Response()

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.is_ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        now_s, engines = books.clock(), books.picker.engines
        books.metrics.show(engines, books.picker.saturation(), now_s)
        books.gateway.show(engines, 0, now_s, 0.0)
        return web.Response(body=books.gateway.text(), headers=METRICS_HEADERS)

    async def decision(http: web.Request) -> web.Response:
        found = books.picker.chooser.find(http.match_info["id"])
        if found is None:
            raise _no_decision()
        return json_response(found.document())

    return _part(alive, ready, metrics, decision)


def operations_of_workers(workers: Workers) -> Part:
    """Return the HTTP operations of an endpoint picker with workers: ready where one of them is,
    with the metrics of all."""
    async def alive(_: web.Request) -> web.Response:
        return web.Response()

    async def ready(_: web.Request) -> web.Response:
        found = await workers.first("/ready")
        return web.Response(status=503 if found is None else 200)

    async def metrics(_: web.Request) -> web.Response:
        await workers.look()
        return web.Response(body=workers.metrics().encode(), headers=METRICS_HEADERS)

    async def decision(http: web.Request) -> web.Response:
        reply = await workers.first(
            f"/v1/penstock/decisions/{quote(http.match_info['id'], safe='')}")
        if reply is None:
            raise _no_decision()
        return web.Response(body=reply.body, content_type=reply.content_type)

    return _part(alive, ready, metrics, decision)


def _no_decision() -> ServiceError:
    return ServiceError(404, "no such decision among the kept ones", "not_found")


def _part(alive: Handler, ready: Handler, metrics: Handler, decision: Handler) -> Part:
    return Part((("GET", "/health", alive), ("GET", "/ready", ready), ("GET", "/metrics", metrics),
                 ("GET", "/v1/penstock/decisions/{id}", decision)), _description,
                _MOST_BODY_BYTES)


def _description() -> dict[str, Any]:
    return {"paths": {path: {"get": {"summary": summary, "responses": {
        "200": {"description": "it"}}}} for path, summary in _SUMMARIES.items()}}
