"""The HTTP server around the operations (aiohttp, extra ``serve``).

It listens on the loopback interface by default and has no users and no passwords: whoever reaches
it may plan. What takes a moment runs in threads, a few at a time; plans of fleet files run in
processes of their own (``jobs``). So nobody is kept from asking.
"""

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import read_body, server_logger, stop_signal
from penstock.serving.planning import fleet_plan
from penstock.serving.planning.jobs import Jobs, Limits
from penstock.serving.planning.openapi import docs_page, openapi_document
from penstock.serving.planning.operation import JSON, Answer, Operation, failure

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MAX_BODY_BYTES = 16 * 2**20
AT_ONCE = 4
USUAL = Limits()
_GOODBYE_S = 5.0


def make_app(operations: Sequence[Operation], max_body_bytes: int = MAX_BODY_BYTES,
             on_bug: Callable[[str], None] = lambda _: None,
             limits: Limits = USUAL) -> web.Application:
    """The application: the operations, and plans of fleet files within ``limits``.

    ``on_bug`` is told the trace of an error that is not the caller's.
    """
    app = web.Application(client_max_size=max_body_bytes, middlewares=[
        _errors(on_bug, max_body_bytes)])
    free = asyncio.Semaphore(AT_ONCE)
    for operation in operations:
        app.router.add_post(operation.path, _handler(operation, free))
    app.router.add_post(fleet_plan.PATH, _plan_handler(Jobs(limits, on_bug)))
    described = (*operations, fleet_plan.operation())
    page, description = docs_page(described), _bytes(openapi_document(described))

    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    async def openapi(_: web.Request) -> web.Response:
        return web.Response(body=description, content_type="application/json")

    app.router.add_get("/docs", docs)
    app.router.add_get("/openapi.json", openapi)
    return app


def _handler(operation: Operation, free: asyncio.Semaphore) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await read_body(request)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return _response(failure(400, f"body: is not JSON ({error})"))
        async with free:
            return _response(await asyncio.to_thread(operation.call, document))

    return handle


def _plan_handler(jobs: Jobs) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if request.content_type not in (JSON, *fleet_plan.YAML):
            return _response(failure(415, fleet_plan.unsupported(request.content_type)))
        try:
            order = fleet_plan.order_of(await read_body(request), request.content_type,
                                        list(request.query.items()))
        except InputError as error:
            return _response(failure(400, str(error)))
        return _response(await jobs.answer(order))

    return handle


def _errors(on_bug: Callable[[str], None], max_body_bytes: int) -> Any:
    """Turns whatever goes wrong into JSON; the caller never sees a traceback."""
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            response = _response(failure(error.status, _reason(request, error, max_body_bytes)))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except web.RequestPayloadError:
            encoding = request.headers.get("Content-Encoding", "none")
            response = _response(failure(400, "body: cannot be decoded; Content-Encoding says "
                                              f"{encoding[:40]!r}"))
            response.force_close()  # where the body ends is not known
            return response
        except Exception as error:
            on_bug(traceback.format_exc())
            return _response(failure(500, "this is a bug in Penstock "
                                          f"({type(error).__name__}); please report it"))

    return middleware


def _reason(request: web.Request, error: web.HTTPException, max_body_bytes: int) -> str:
    if error.status == 404:
        return f"no operation {request.path[:80]!r}; see /docs"
    if error.status == 405:
        return f"{request.path[:80]} does not take {request.method}; see /docs"
    if error.status == 413:
        return (f"body: larger than {max_body_bytes / 2**20:.3g} MB, the most that this server "
                "takes (plan-server --max-body-mb)")
    return str(error.text or error.reason)


def _response(answer: Answer) -> web.Response:
    return web.Response(body=_bytes(answer.document), status=answer.status,
                        content_type=JSON, headers=answer.headers)


def _bytes(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


async def serve(app: web.Application, host: str, port: int,
                on_ready: Callable[[str, int], None]) -> None:
    """Listen until SIGINT or SIGTERM; ``on_ready`` gets the address, which port 0 leaves open."""
    # With handler_cancellation, a caller who hangs up stops the plan that was made for them.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True,
                           logger=server_logger(), shutdown_timeout=_GOODBYE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        stopped = stop_signal()
        on_ready(str(address[0]), int(address[1]))
        await stopped.wait()
    finally:
        await runner.cleanup()
