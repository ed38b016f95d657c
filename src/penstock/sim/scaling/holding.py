"""Requests that wait at the gateway: until a replica of their model serves, or held back."""

from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.hopeless import HOPELESS, Patience
from penstock.sim.kernel import NEVER_PS

HELD_TOO_LONG: Final = "no replica was ready in time"


class _Held(NamedTuple):
    """A request that waits since a time."""

    since_ps: int
    request: Request


class Holding:
    """Keeps requests in order of arrival, each for at most ``patience_ps``, and where there is a
    ``patience``, as long as its objective is within reach.

    The gateway's ``demand`` counts them. ``on_refused`` gets each request that waits for longer,
    with the reason. ``on_held`` gets the time of each request that begins to wait, and returns the
    number of the event source that this concerns, as does ``on_deferred`` for each request that
    ``deferral`` holds back. Such a request has not arrived until it is sent.
    """

    def __init__(self, patience_ps: int, demand: DemandMeter,
                 on_refused: Callable[[Request, str], None],
                 on_held: Callable[[int], int], patience: Patience | None = None,
                 deferral: Deferral[Request] | None = None,
                 on_deferred: Callable[[int], int] | None = None) -> None:
        self.demand = demand
        self.num_deferred = 0
        self.deferred_s = 0.0  # all requests together
        self._deferral = deferral
        self._on_deferred = on_deferred
        self._on_held = on_held
        self._patience_ps = patience_ps
        self._patience = patience
        self._on_refused = on_refused
        self._held: dict[int, _Held] = {}
        self._since_ps: dict[int, int] = {}  # of requests that were released and may return
        self._ends: list[tuple[int, int, str]] = []  # (time, request id, reason) of all waits

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
        number = request.request_id
        since_ps = self._since_ps.pop(number, now_ps)
        self._held[number] = _Held(since_ps, request)
        heappush(self._ends, (since_ps + self._patience_ps, number, HELD_TOO_LONG))
        if self._patience is not None:
            within_s = self._patience(request.model, request.service_class, request.prompt_tokens)
            if within_s < inf:
                due_ps = to_ps(request.arrival_s + within_s)
                heappush(self._ends, (due_ps, number, HOPELESS))
        self._count(request, 1)
        return self._on_held(now_ps)

    @property
    def due_ps(self) -> int:
        """When a request becomes hopeless, NEVER_PS where requests wait regardless."""
        if self._patience is None:
            return NEVER_PS
        return self._ends[0][0] if self._ends else NEVER_PS

    def release(self) -> list[Request]:
        """Return all kept requests, which are sent once more. Those that come back go on to
        wait."""
        found = [one.request for one in self._held.values()]
        self._since_ps = {number: one.since_ps for number, one in self._held.items()}
        self._held.clear()
        self._ends.clear()
        for request in found:
            self._count(request, -1)
        return found

    def give_up(self, now_ps: int) -> list[Request]:
        """Refuse the requests that have waited for too long, and return them."""
        found: list[Request] = []
        while self._ends and self._ends[0][0] <= now_ps:
            _, number, reason = heappop(self._ends)
            one = self._held.pop(number, None)
            if one is None:
                continue
            self._count(one.request, -1)
            self._on_refused(one.request, reason)
            found.append(one.request)
        return found

    def _count(self, request: Request, change: int) -> None:
        self.demand.held(request.model, request.service_class.name, request.prompt_tokens, change)
