"""Requests that wait for a device that models share."""

import asyncio
from collections.abc import Callable

from penstock.policy.multiplex.values import Queued
from penstock.serving.multiplex.counts import Counts
from penstock.serving.multiplex.tickets import RefusedError, Ticket
from penstock.serving.waiting_list import WaitingList


class PendingRequests:
    """The callers of requests, until they get a ticket or are rejected.

    A request that has waited ``most_s`` goes to ``expired``, which rejects it. ``left`` gets a
    request whose caller left while it waited, ``unused`` a ticket whose caller had left.
    """

    def __init__(self, num_models: int, most_s: float, loop: asyncio.AbstractEventLoop,
                 counts: Counts, expired: Callable[[Queued], None], *,
                 left: Callable[[Queued], None], unused: Callable[[Ticket], None]) -> None:
        self._requests: dict[int, Queued] = {}
        self._num = [0] * num_models
        self._most_s = most_s
        self._counts = counts
        self._expired = expired
        self._tell_left = left
        self._waiting: WaitingList[int, Ticket] = WaitingList(loop, left=self._left, unused=unused)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._requests

    def num(self, model: int) -> int:
        """Return the number of requests that wait for a model."""
        return self._num[model]

    def requests(self, model: int | None = None) -> list[Queued]:
        """Return the requests that wait for a model, or for any."""
        return [request for request in self._requests.values()
                if model is None or request.model == model]

    def add(self, request: Queued) -> "asyncio.Future[Ticket]":
        """Begin a request's wait. Its caller passes the future to ``wait``."""
        self._requests[request.request_id] = request
        self._num[request.model] += 1
        return self._waiting.add(request.request_id, self._most_s,
                                 lambda _: self._expired(request))

    async def wait(self, request: Queued, coming: "asyncio.Future[Ticket]") -> Ticket:
        """Wait for a request's ticket. Raises RefusedError where it is rejected."""
        return await self._waiting.wait(request.request_id, coming)

    def call(self, ticket: Ticket) -> bool:
        """Give a request its ticket. Returns False where its caller has left."""
        self._forget(ticket.request.request_id)
        served = self._waiting.serve(ticket.request.request_id, ticket)
        self._counts.started[ticket.model] += served
        return served

    def reject(self, request: Queued, refusal: RefusedError) -> None:
        """Reject a request. Does nothing where it does not wait."""
        self._forget(request.request_id)
        if self._waiting.refuse(request.request_id, refusal):
            self._counts.refuse(request.model, refusal.code, refusal.reason)

    def _left(self, request_id: int) -> None:
        request = self._forget(request_id)
        if request is not None:
            self._tell_left(request)

    def _forget(self, request_id: int) -> Queued | None:
        request = self._requests.pop(request_id, None)
        if request is not None:
            self._num[request.model] -= 1
        return request
