"""The HTTP server around the operations (aiohttp, extra ``serve``).

A planning server alone has no authentication: every client that reaches it may plan. Slow
operations run in a few threads there, and in processes beside a gateway. Plans of fleet files run
in processes of their own (``jobs``). So slow operations never block the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import orjson
from aiohttp import web

from penstock.core.errors import InputError
from penstock.engines.http import Handler
from penstock.engines.http_body import read_body, read_json
from penstock.serving.application import Part, make_application
from penstock.serving.callers import Address
from penstock.serving.planning import fleet_plan
from penstock.serving.planning.jobs import Jobs, Limits
from penstock.serving.planning.openapi import TITLE, docs_page, openapi_document
from penstock.serving.planning.operation import JSON, Answer, Operation, failure
from penstock.serving.planning.operations import begin_process, call_operation

Call = Callable[[Operation, Any], Awaitable[Answer]]
MAX_BODY_BYTES = 16 * 2**20
AT_ONCE = 4
USUAL = Limits()


def part(operations: Sequence[Operation], jobs: Jobs, call: Call,
         max_body_bytes: int = MAX_BODY_BYTES) -> Part:
    """Return the planning API: the operations, which ``call`` carries out, and plans of fleet
    files."""
    described = (*operations, fleet_plan.operation())
    page = docs_page(described)

    async def docs(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    return Part([
        *(("POST", one.path, _handler(one, call, max_body_bytes)) for one in operations),
        ("POST", fleet_plan.PATH, _plan_handler(jobs, max_body_bytes)), ("GET", "/docs", docs)],
        lambda: openapi_document(described), max_body_bytes,
        content_types=(JSON, *fleet_plan.YAML), scope="plan")


def make_app(operations: Sequence[Operation], max_body_bytes: int = MAX_BODY_BYTES,
             on_bug: Callable[[str], None] = lambda _: None,
             limits: Limits = USUAL, host: str = "127.0.0.1",
             names: Sequence[str] = ()) -> web.Application:
    """Return the application of a planning server alone. Plans of fleet files obey ``limits``.

    ``on_bug`` gets the traceback of an error that the client did not cause.
    """
    address = Address(TITLE, host, names, see="/docs", code="input",
                      size_hint=" (plan-server --max-body-mb)")
    return make_application(address, [part(operations, Jobs(limits, on_bug), in_threads(),
                                        max_body_bytes)], on_bug)


def in_threads(num_at_once: int = AT_ONCE) -> Call:
    """Return a function that carries operations out in threads of this process, a few at a time."""
    free = asyncio.Semaphore(num_at_once)

    async def call(operation: Operation, document: Any) -> Answer:
        async with free:
            return await asyncio.to_thread(operation.call, document)

    return call


class Processes:
    """Carries operations out in at most ``number`` processes, so that they do not slow this
    process' event loop. The processes start when somebody asks."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool: ProcessPoolExecutor | None = None

    async def call(self, operation: Operation, document: Any) -> Answer:
        """Carry an operation out."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self._number, mp_context=get_context("spawn"),
                                             initializer=begin_process)
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, call_operation, operation.path, document)

    def close(self) -> None:
        """Start nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def _handler(operation: Operation, call: Call, max_body_bytes: int) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        body = await read_body(request, max_body_bytes)
        try:
            document = read_json(body)
        except orjson.JSONDecodeError as error:
            return _response(failure(400, f"body: is not JSON ({error})"))
        return _response(await call(operation, document))

    return handle


def _plan_handler(jobs: Jobs, max_body_bytes: int) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        if request.content_type not in (JSON, *fleet_plan.YAML):
            return _response(failure(415, fleet_plan.unsupported(request.content_type)))
        try:
            order = fleet_plan.order_of(await read_body(request, max_body_bytes),
                                        request.content_type, list(request.query.items()))
        except InputError as error:
            return _response(failure(400, str(error)))
        today = datetime.now(UTC).date().isoformat()
        return _response(await jobs.answer(replace(order, today=today)))

    return handle


def _response(answer: Answer) -> web.Response:
    return web.Response(
        body=orjson.dumps(answer.document, option=orjson.OPT_SERIALIZE_NUMPY),
        status=answer.status, content_type=JSON, headers=answer.headers)
