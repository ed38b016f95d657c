"""One factory for the HTTP applications of services: limits, errors, OpenAPI document, access.

Engine servers and the evidence agent are apart (ADR 16).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from penstock import __version__
from penstock.engines.http import (
    Handler,
    HttpError,
    json_errors,
    json_response,
)
from penstock.serving.callers import Address, check_content_type, own_site_rule
from penstock.serving.errors import ServiceError

Route = tuple[str, str, Handler]
"""Method, path and handler."""


@dataclass(frozen=True, slots=True)
class Part:
    """The API of one service. ``describe`` gives ``paths`` and ``components`` of OpenAPI, and what
    else its document has. ``guard`` raises HttpError for callers who may not ask any of ``routes``;
    ``closing`` is called where the server stops; ``content_types`` are those of bodies. A gateway
    demands the right ``scope`` of callers, and its audit log has the orders of ``acts``, by path.
    """

    routes: Sequence[Route]
    describe: Callable[[], Mapping[str, Any]]
    max_body_bytes: int
    guard: Callable[[web.Request], object] | None = None
    closing: Callable[[], Awaitable[None]] | None = None
    content_types: Sequence[str] = ("application/json",)
    scope: str = "admin"
    acts: Mapping[str, str] = field(default_factory=dict)


def make_application(address: Address, parts: Sequence[Part],
                     on_bug: Callable[[str], None]) -> web.Application:
    """Return the application of several services. Its runner must cancel handlers whose client has
    disconnected.

    ``on_bug`` gets the traceback of an error that the client did not cause.
    """
    app = web.Application(client_max_size=max(part.max_body_bytes for part in parts), middlewares=[
        json_errors(_wrong(address), on_bug, own_site_rule(address))])
    for part in parts:
        for method, path, handler in part.routes:
            add = app.router.add_get if method == "GET" else app.router.add_post
            add(path, _guarded(part, handler, address.code))
        if part.closing is not None:
            app.on_shutdown.append(_closing(part.closing))

    async def openapi(_: web.Request) -> web.Response:
        return json_response(description(address.title, parts))

    app.router.add_get("/openapi.json", openapi)
    return app


def description(title: str, parts: Sequence[Part]) -> dict[str, Any]:
    """Return one OpenAPI document for several services."""
    whole: dict[str, Any] = {"openapi": "3.1.0", "info": {"title": title, "version": __version__},
                             "paths": {}, "components": {}}
    whole["paths"]["/openapi.json"] = {"get": {
        "summary": "This document", "security": [], "responses": {"200": {
            "description": "it", "content": {"application/json": {"schema": {"type": "object"}}}}}}}
    for part in parts:
        found = part.describe()
        whole["paths"].update(found["paths"])
        for kind, entries in found.get("components", {}).items():
            whole["components"].setdefault(kind, {}).update(entries)
        if "security" in found:
            whole["security"] = found["security"]
    return whole


def _guarded(part: Part, handler: Handler, code: str) -> Handler:
    """Return a handler with the checks of a service's callers and of content types."""
    guard, kinds = part.guard, part.content_types

    async def guarded(request: web.Request) -> web.StreamResponse:
        if guard is not None:
            guard(request)
        check_content_type(request, kinds, code)
        return await handler(request)

    return guarded


def _closing(closing: Callable[[], Awaitable[None]]) -> Callable[[web.Application],
                                                                 Awaitable[None]]:
    async def close(_: web.Application) -> None:
        await closing()

    return close


def _wrong(address: Address) -> Callable[[web.Request, int, str], HttpError]:
    """Return a function that turns HTTP's own errors into the service's errors."""
    def wrong(request: web.Request, status: int, message: str) -> HttpError:
        path = request.path[:80]
        if status == 500:
            return ServiceError(status, f"{message}; please report it", "bug")
        messages = {404: f"no operation {path!r}; see {address.see}",
                    405: f"{path} does not take {request.method}; see {address.see}",
                    413: f"{message}{address.size_hint}"}
        return ServiceError(status, messages.get(status, message), address.code)

    return wrong
