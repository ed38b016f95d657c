"""One factory for the HTTP applications of services: limits, errors, OpenAPI document, access.

Engine servers and the evidence agent are apart (ADR 16).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from penstock import __version__
from penstock.engines.http import (
    Handler,
    HttpError,
    errors_told,
    is_loopback,
    json_response,
)
from penstock.serving.errors import ServiceError

Route = tuple[str, str, Handler]
"""Method, path and handler."""


@dataclass(frozen=True, slots=True)
class Part:
    """The API of one service. ``describe`` returns the service's part of the OpenAPI document
    (``paths``, ``components``). ``guard`` raises HttpError for a caller who may not use any of
    ``routes``. ``closing`` is called when the server stops."""

    routes: Sequence[Route]
    describe: Callable[[], Mapping[str, Any]]
    max_body_bytes: int
    guard: Callable[[web.Request], None] | None = None
    closing: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Facts that the services on one address share: its ``title``, the ``host`` on which it
    listens, whether callers need keys, and the page that errors about unknown paths refer to.
    ``code`` is the code of HTTP's own errors; ``size_hint`` says how to allow a larger body."""

    title: str
    host: str = "127.0.0.1"
    needs_keys: Callable[[], bool] = field(default=lambda: False)
    see: str = "/openapi.json"
    code: str = "http_error"
    size_hint: str = ""


def make_application(address: Address, parts: Sequence[Part],
                     on_bug: Callable[[str], None]) -> web.Application:
    """Return the application of several services. Its runner must cancel handlers whose client has
    disconnected.

    ``on_bug`` gets the traceback of an error that the client did not cause.
    """
    app = web.Application(client_max_size=max(part.max_body_bytes for part in parts), middlewares=[
        errors_told(_wrong(address), on_bug), _called_by_own_name(address)])
    for part in parts:
        for method, path, handler in part.routes:
            add = app.router.add_get if method == "GET" else app.router.add_post
            add(path, _guarded(part, handler))
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


def _guarded(part: Part, handler: Handler) -> Handler:
    guard = part.guard
    if guard is None:
        return handler

    async def guarded(request: web.Request) -> web.StreamResponse:
        guard(request)
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


def _called_by_own_name(address: Address) -> Any:
    """Return a middleware against cross-site requests to a keyless server on loopback.

    Any process on this machine may use such a server. A web page must not, neither through a host
    name that resolves to this address (DNS rebinding) nor from another origin. Where keys are
    needed, no page has a key, so no check is made.
    """
    def is_own(name: str) -> bool:
        return name == address.host or is_loopback(name)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_loopback(address.host) and not address.needs_keys():
            name = _hostname(f"//{request.host or ''}")
            if not is_own(name):
                raise ServiceError(403, f"Host: {name[:60]!r} is not an address of this server",
                                   address.code)
            origin = request.headers.get("Origin")
            if origin is not None and not is_own(_hostname(origin)):
                raise ServiceError(403, f"Origin: {origin[:60]!r} is another site", address.code)
        return await handler(request)

    return middleware


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
