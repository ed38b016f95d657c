"""The keeper of a gateway's worker processes: it knows what concerns all of them."""

from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from penstock.engines.http import METRICS_HEADERS, json_response
from penstock.engines.http_body import read_body
from penstock.serving.application import Part
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.merged_status import merged_status
from penstock.serving.gateway.operations import private_part
from penstock.serving.workers.place import WorkerPlace
from penstock.serving.workers.private import ERRORS, Client, Reply
from penstock.serving.workers.workers import Workers


class Keeper:
    """The keeper as a worker asks it. Every method raises ServiceError where the keeper does not
    answer, or has no answer since no worker does."""

    def __init__(self, client: Client, place: WorkerPlace) -> None:
        self._client = client
        self._place = place

    async def metrics(self) -> bytes:
        """Return the metrics of all workers, the ended ones included."""
        return (await self._ask("GET", "/metrics")).body

    async def status(self) -> dict[str, Any]:
        """Return the document of /v1/penstock/status for all workers."""
        return _document(await self._ask("GET", "/status"))

    async def drain(self, body: bytes) -> dict[str, Any]:
        """Drain an engine in all workers, also those that start later, or undo that."""
        return _document(await self._ask("POST", "/drain", body))

    async def decision(self, decision_id: str) -> dict[str, Any] | None:
        """Return a decision of any worker, as ``Operations.decision`` does."""
        reply = await self._ask("GET", f"/decisions/{quote(decision_id, safe='')}")
        return _document(reply) if reply.status == 200 else None

    async def _ask(self, method: str, path: str, body: bytes = b"") -> Reply:
        try:
            reply = await self._client.ask(self._place.keeper, method, path, body)
        except ERRORS as error:
            raise ServiceError(503, "the process that knows all workers does not answer",
                               "no_keeper") from error
        if reply.status >= 500:
            problem = _document(reply)["error"]
            raise ServiceError(reply.status, problem["message"], problem["code"])
        return reply


def keeper_part(workers: Workers) -> Part:
    """Return the API of a keeper for its workers."""
    async def metrics(_: web.Request) -> web.Response:
        await workers.look()
        return web.Response(body=workers.metrics().encode(), headers=METRICS_HEADERS)

    async def status(_: web.Request) -> web.Response:
        found = [_document(reply) for reply in await workers.ask("GET", "/status")
                 if reply.status == 200]
        if not found:
            raise ServiceError(503, "no worker answers", "no_worker")
        return json_response(merged_status(found))

    async def drain(http: web.Request) -> web.Response:
        body = await read_body(http)
        replies = await workers.ask("POST", "/drain", body)
        drained = [_document(reply) for reply in replies if reply.status == 200]
        if not drained:
            raise ServiceError(503, "no worker answers", "no_worker")
        workers.drain(drained[0]["url"], draining=drained[0]["draining"])
        return json_response({**drained[0], "num_in_flight": sum(
            one["num_in_flight"] for one in drained)})

    async def decision(http: web.Request) -> web.Response:
        reply = await workers.first(f"/decisions/{quote(http.match_info['id'], safe='')}")
        if reply is None:
            raise ServiceError(404, "no such decision", "not_found")
        return web.Response(body=reply.body, content_type=reply.content_type)

    return private_part(metrics=metrics, status=status, drain=drain, decision=decision)


def _document(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(reply.body)
    return found
