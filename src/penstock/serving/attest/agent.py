"""An HTTP agent beside an engine that answers challenges with evidence (aiohttp)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from penstock.attest.values import MOST_NONCE_BYTES, check_nonce_text
from penstock.core.errors import InputError
from penstock.engines.http import HttpError, json_errors, json_response, listening
from penstock.engines.tls import ServerTls

PATH = "/attestation"
_SHUTDOWN_S = 2.0


class AgentError(HttpError):
    """An answer without evidence."""

    def document(self) -> dict[str, object]:
        return {"error": {"message": str(self)}}


class EvidenceAgent:
    """Answers ``GET /attestation?nonce=HEX`` with the evidence that ``make`` creates for the nonce.

    Evidence is created in a thread, one request at a time, because the hardware takes a while to
    answer.
    """

    def __init__(self, make: Callable[[str], bytes], on_bug: Callable[[str], None]) -> None:
        self._make = make
        self._on_bug = on_bug
        self._lock = asyncio.Lock()

    def app(self) -> web.Application:
        """The application."""
        app = web.Application(middlewares=[json_errors(
            lambda _, status, message: AgentError(status, message), self._on_bug)])
        app.router.add_get(PATH, self._answer)
        app.router.add_get("/health", self._health)
        return app

    async def _answer(self, http: web.Request) -> web.Response:
        nonce = http.query.get("nonce", "")
        try:
            check_nonce_text(nonce[:2 * MOST_NONCE_BYTES + 1])
        except InputError as error:
            raise AgentError(400, f"nonce: {error}") from None
        async with self._lock:
            try:
                evidence = await asyncio.to_thread(self._make, nonce)
            except InputError as error:
                raise AgentError(503, str(error)) from None
        return web.Response(body=evidence, content_type="application/json")

    async def _health(self, _: web.Request) -> web.Response:
        return json_response({"status": "ok"})


@asynccontextmanager
async def agent(make: Callable[[str], bytes], host: str, port: int,
                on_bug: Callable[[str], None],
                tls: ServerTls | None = None) -> AsyncIterator[str]:
    """Yield the URL of the agent, which serves until the context ends. Raises InputError where the
    address cannot be bound."""
    async with listening(EvidenceAgent(make, on_bug).app(), host, port, _SHUTDOWN_S,
                         tls=tls) as url:
        yield f"{url}{PATH}"
