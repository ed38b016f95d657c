"""Deployments over HTTP: the verbs of ``deployments.verbs`` as a REST API (aiohttp).

A server of deployments alone has no authentication: every client that reaches it may deploy and
remove. To keep web pages in a local browser out, orders must be JSON, and the Host header must be
an address of this machine.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import Handler, json_response
from penstock.engines.http_body import read_body, read_json
from penstock.serving.application import Part, make_application
from penstock.serving.callers import Address
from penstock.serving.deployments.deployments import RefusedError
from penstock.serving.deployments.records import UnknownDeploymentError
from penstock.serving.deployments.verbs import VERBS, Deployments, Verb
from penstock.serving.errors import ServiceError
from penstock.serving.planning.deployments_openapi import openapi_document

MAX_BODY_BYTES = 4 * 2**20
STATUSES: Mapping[str, int] = {
    "state": 409, "busy": 409, "no_room": 409, "not_profiled": 409, "not_attested": 409,
    "cancelled": 409, "no_configuration": 422, "engine": 502}
"""HTTP status of each code of ``RefusedError``."""


def part(deployments: Deployments) -> Part:
    """Return the API of deployments."""
    return Part([(verb.method, verb.path, _handler(verb, deployments)) for verb in VERBS.values()],
                openapi_document, MAX_BODY_BYTES, scope="deploy",
                acts={verb.path: f"{verb.name} a deployment" for verb in VERBS.values()
                      if verb.method == "POST" and verb.name != "infer"})


def make_app(deployments: Deployments, host: str = "127.0.0.1",
             on_bug: Callable[[str], None] = lambda _: None,
             names: Sequence[str] = ()) -> web.Application:
    """Return the application of a server of deployments alone, which listens on ``host``."""
    address = Address("Penstock deployments", host, names, code="input")
    app = make_application(address, [part(deployments)], on_bug)

    async def health(_: web.Request) -> web.Response:
        return json_response({"status": "ok"})

    app.router.add_get("/health", health)
    return app


def _handler(verb: Verb, deployments: Deployments) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        order = await _order(request) if verb.method == "POST" else {}
        try:
            answer = await deployments.call(verb.name, request.match_info.get("name", ""), order)
        except UnknownDeploymentError as error:
            raise ServiceError(404, str(error), "unknown") from error
        except InputError as error:
            raise ServiceError(400, str(error), "input") from error
        except RefusedError as error:
            raise ServiceError(STATUSES[error.code], str(error), error.code,
                               details=error.details) from error
        at_once = order.get("wait") or order.get("dry_run")
        return json_response(answer, 200 if at_once else verb.begun)

    return handle


async def _order(request: web.Request) -> dict[str, Any]:
    body = await read_body(request, MAX_BODY_BYTES)
    if request.content_type != "application/json" and (body or request.content_type !=
                                                       "application/octet-stream"):
        raise ServiceError(415, f"body: found {request.content_type[:60]!r}; expected "
                                "application/json", "input")
    if not body:
        return {}
    try:
        document = read_json(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError(400, f"body: is not JSON ({error})", "input") from error
    if not isinstance(document, dict):
        raise ServiceError(400, "body: expected a JSON object", "input")
    return document
