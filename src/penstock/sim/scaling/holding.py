"""Requests that wait at the gateway: until a replica of their model serves, or held back."""

from collections import deque
from collections.abc import Callable
from typing import Final

from penstock.core.request import Request
from penstock.core.units import PS_PER_S
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.demand import DemandMeter

HELD_TOO_LONG: Final = "no replica was ready in time"


class Holding:
    """Keeps requests in order of arrival, each for at most ``patience_ps``.

    The gateway's ``demand`` counts them. ``on_refused`` gets each request that waits for longer,
    with the reason. ``on_held`` gets the time of each request that begins to wait, and returns the
    number of the event source that this concerns, as does ``on_deferred`` for each request that
    ``deferral`` holds back. Such a request has not arrived until it is sent.
    """

    def __init__(self, patience_ps: int, demand: DemandMeter,
                 on_refused: Callable[[Request, str], None],
                 on_held: Callable[[int], int], deferral: Deferral[Request] | None = None,
                 on_deferred: Callable[[int], int] | None = None) -> None:
        self.demand = demand
        self.num_deferred = 0
        self.deferred_s = 0.0  # all requests together
        self._deferral = deferral
        self._on_deferred = on_deferred
        self._on_held = on_held
        self._patience_ps = patience_ps
        self._on_refused = on_refused
        self._held: deque[tuple[int, Request]] = deque()
        self._since_ps: dict[int, int] = {}  # of requests that were released and may return

    def arrive(self, request: Request, now_ps: int) -> int | None:
        """Count an arrival, or hold the request back. Returns the number of the event source that
        this concerns, None where the request is to be sent."""
        model, name = request.model, request.service_class.name
        deferral, on_deferred = self._deferral, self._on_deferred
        if deferral is None or on_deferred is None or not deferral.defers(model, name):
            self.demand.arrived(model, name, request.prompt_tokens)
            return None
        deferral.hold(request, model, name, now_ps / PS_PER_S)
        self.num_deferred += 1
        return on_deferred(now_ps)

    def send_deferred(self, now_ps: int) -> list[Request]:
        """Count the arrivals of requests that are held back no longer, and return them."""
        found: list[Request] = []
        if self._deferral is not None:
            for one in self._deferral.send(now_ps / PS_PER_S):
                request: Request = one.item
                self.demand.arrived(request.model, request.service_class.name,
                                    request.prompt_tokens, deferred=one.deferred)
                self.deferred_s += now_ps / PS_PER_S - request.arrival_s
                found.append(request)
        return found

    def hold(self, request: Request, now_ps: int) -> int:
        """Keep a request. Returns the number of the event source that this concerns."""
        since_ps = self._since_ps.pop(request.request_id, now_ps)
        self._held.append((since_ps, request))
        self._count(request, 1)
        return self._on_held(now_ps)

    def release(self) -> list[Request]:
        """Return all kept requests, which are sent once more. Those that come back go on to
        wait."""
        self._since_ps = {request.request_id: since_ps for since_ps, request in self._held}
        found = [request for _, request in self._held]
        self._held.clear()
        for request in found:
            self._count(request, -1)
        return found

    def give_up(self, now_ps: int) -> list[Request]:
        """Refuse the requests that have waited for too long, and return them."""
        found: list[Request] = []
        while self._held and now_ps - self._held[0][0] >= self._patience_ps:
            request = self._held.popleft()[1]
            self._count(request, -1)
            self._on_refused(request, HELD_TOO_LONG)
            found.append(request)
        return found

    def _count(self, request: Request, change: int) -> None:
        self.demand.held(request.model, request.service_class.name, request.prompt_tokens, change)
