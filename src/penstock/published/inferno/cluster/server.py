"""HTTP of the loop: a cycle on demand, what the collector sees, and health."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from penstock.engines.http import json_response
from penstock.published.inferno.cluster.loop import InfernoLoop, Skipped
from penstock.serving.application import Part, make_application
from penstock.serving.callers import Address
from penstock.serving.errors import ServiceError

_MAX_BODY_BYTES = 1024
_SKIPPED = 404
"""Status of a cycle that was skipped, as Inferno's controller answers it."""


def make_app(loop: InfernoLoop, host: str, on_bug: Callable[[str], None],
             names: Sequence[str] = ()) -> web.Application:
    """Return the application. ``names`` are those by which clients reach it besides ``host``."""
    async def healthy(_: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    routes = [("GET", "/invoke", _answering(loop.invoke)),
              ("GET", "/collect", _answering(loop.collected)), ("GET", "/healthz", healthy)]
    part = Part(routes, _described, _MAX_BODY_BYTES, _refuse_pages)
    return make_application(Address("Inferno's control loop by Penstock", host, names), [part],
                            on_bug)


def _answering(work: Callable[[], Awaitable[dict[str, Any]]]
               ) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        try:
            return json_response(await work())
        except Skipped as error:
            raise ServiceError(_SKIPPED, f"cycle skipped: {error}", "cycle_skipped") from error

    return handler


def _refuse_pages(request: web.Request) -> None:
    """Refuse requests that a page of another site makes a browser send: a GET changes replicas."""
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise ServiceError(403, "Sec-Fetch-Site: a page of another site asks", "http_error")


def _described() -> dict[str, dict[str, object]]:
    skipped = {"404": {"description": "the cycle was skipped, and nothing was changed"}}
    return {"paths": {
        "/invoke": {"get": {"summary": "Collect, decide and actuate once", "responses": {
            "200": {"description": "every server with currentAlloc and desiredAlloc"}, **skipped}}},
        "/collect": {"get": {"summary": "Servers as the collector sees them", "responses": {
            "200": {"description": "their specifications"}, **skipped}}},
        "/healthz": {"get": {"summary": "Whether the process works",
                             "responses": {"200": {"description": "the process works"}}}}}}
