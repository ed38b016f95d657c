"""Orders over HTTP as entries of the audit log."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from penstock.engines.http import Handler, HttpError
from penstock.serving.errors import ServiceError
from penstock.serving.tenants.audit import AuditLog
from penstock.serving.tenants.gate import Identity


@dataclass(slots=True)
class Act:
    """An order that is under way."""

    target: str = ""
    outcome: str = "broke off"


class RequestAudit:
    """Writes who gave an order. Callers without the right are not recorded, so that nobody else can
    fill the log."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    async def add(self, http: web.Request, who: Identity, action: str, target: str,
                  outcome: str) -> None:
        """Append an entry, and wait until it is written."""
        key_id = "" if who.key is None else who.key.key_id
        await self._log.add(key_id, action, target, outcome, http.remote or "")

    @asynccontextmanager
    async def act(self, http: web.Request, who: Identity, action: str) -> AsyncIterator[Act]:
        """Yield an act, which is recorded at the end of the context with its outcome."""
        act = Act(http.match_info.get("name", ""))
        try:
            yield act
            act.outcome = "done"
        except HttpError as error:
            why = error.code if isinstance(error, ServiceError) else error.status
            act.outcome = f"refused: {why}"
            raise
        finally:
            await self.add(http, who, action, act.target, act.outcome)

    def of(self, action: str, permit: Callable[[web.Request], Identity],
           handler: Handler) -> Handler:
        """Return a handler whose calls by permitted callers are recorded before the answer."""
        async def recorded(http: web.Request) -> web.StreamResponse:
            async with self.act(http, permit(http), action):
                return await handler(http)

        return recorded
