"""Health, metrics and decisions of an endpoint picker over HTTP."""

from typing import Any

from aiohttp import web

from penstock.engines.http import json_response
from penstock.serving.application import Part
from penstock.serving.endpoint_picker.account import Books
from penstock.serving.endpoint_picker.server import Health
from penstock.serving.errors import ServiceError

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
        return web.Response(body=books.gateway.text(), headers={
            "Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def decision(http: web.Request) -> web.Response:
        found = books.picker.chooser.find(http.match_info["id"])
        if found is None:
            raise ServiceError(404, "no such decision among the kept ones", "not_found")
        return json_response(found.document())

    return Part((("GET", "/health", alive), ("GET", "/ready", ready), ("GET", "/metrics", metrics),
                 ("GET", "/v1/penstock/decisions/{id}", decision)), _description,
                _MOST_BODY_BYTES)


def _description() -> dict[str, Any]:
    return {"paths": {path: {"get": {"summary": summary, "responses": {
        "200": {"description": "it"}}}} for path, summary in _SUMMARIES.items()}}
