"""Deployments over HTTP: the verbs of ``control.verbs`` as a small REST server (aiohttp).

It listens on the loopback interface by default and has no users and no passwords: whoever reaches
it may deploy and remove. So that no web page in a browser on the same machine does, orders must be
JSON, and the server must be called by an address of this machine.
"""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import Handler, HttpError, errors_told, json_response, read_body
from penstock.serving.deployments.controller import UnknownDeploymentError
from penstock.serving.deployments.deployments import RefusedError
from penstock.serving.deployments.verbs import VERBS, Deployments, Verb
from penstock.serving.planning.deployments_openapi import openapi_document

MAX_BODY_BYTES = 4 * 2**20
STATUSES: Mapping[str, int] = {
    "state": 409, "busy": 409, "no_room": 409, "not_profiled": 409, "not_attested": 409,
    "cancelled": 409, "no_configuration": 422, "engine": 502}
"""HTTP status of each code of ``RefusedError``."""


class ApiError(HttpError):
    """An error as every endpoint tells it: a code for programs, a line for people, and details."""

    def __init__(self, status: int, code: str, message: str,
                 details: Mapping[str, Any] | None = None) -> None:
        super().__init__(status, " ".join(message.split()))
        self.code = code
        self.details = dict(details or {})

    def document(self) -> dict[str, Any]:
        return {"error": {"code": self.code, "message": str(self), "details": self.details}}


def make_app(deployments: Deployments, host: str = "127.0.0.1",
             on_bug: Callable[[str], None] = lambda _: None) -> web.Application:
    """The application for a server that listens on ``host``."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[
        errors_told(_plain_error, on_bug), _called_by_own_name(host)])
    for verb in VERBS.values():
        app.router.add_route(verb.method, verb.path, _handler(verb, deployments))
    description = orjson.dumps(openapi_document())

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json")

    async def health(_: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    app.router.add_get("/openapi.json", openapi)
    app.router.add_get("/health", health)
    return app


def _handler(verb: Verb, deployments: Deployments) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        order = await _order(request) if verb.method == "POST" else {}
        try:
            answer = await deployments.call(verb.name, request.match_info.get("name", ""), order)
        except UnknownDeploymentError as error:
            raise ApiError(404, "unknown", str(error)) from error
        except InputError as error:
            raise ApiError(400, "input", str(error)) from error
        except RefusedError as error:
            raise ApiError(STATUSES[error.code], error.code, str(error), error.details) from error
        at_once = order.get("wait") or order.get("dry_run")
        return json_response(answer, 200 if at_once else verb.begun)

    return handle


async def _order(request: web.Request) -> dict[str, Any]:
    body = await read_body(request)
    if request.content_type != "application/json" and (body or request.content_type !=
                                                       "application/octet-stream"):
        raise ApiError(415, "input", f"body: found {request.content_type[:60]!r}; expected "
                                     "application/json")
    if not body:
        return {}
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "input", f"body: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ApiError(400, "input", "body: expected a JSON object")
    return document


def _called_by_own_name(host: str) -> Any:
    """Refuse requests by another host name to a server that only this machine can reach."""
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        name = (request.host or "").rpartition("]")[0].strip("[") or \
            (request.host or "").partition(":")[0]
        if _is_loopback(host) and name != host and not _is_loopback(name):
            raise ApiError(403, "input", f"Host: {name[:60]!r} is no address of this server")
        return await handler(request)

    return middleware


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _plain_error(status: int, message: str) -> ApiError:
    """An error that aiohttp or a bug makes."""
    known = {404: "no such path; see /openapi.json", 405: "this path does not take this method",
             413: f"body: larger than {MAX_BODY_BYTES / 2**20:.3g} MB"}
    return ApiError(status, "bug" if status >= 500 else "input", known.get(status, message))
