"""Requests that wait at the gateway until a replica of their model serves."""

from collections import deque
from collections.abc import Callable
from typing import Final

from penstock.core.request import Request
from penstock.sim.scaling.meter import DemandMeter

HELD_TOO_LONG: Final = "no replica was ready in time"


class Holding:
    """Keeps requests in order of arrival, each for at most ``patience_ps``.

    The gateway's ``demand`` counts them. ``on_refused`` gets each request that waits for longer,
    with the reason.
    """

    def __init__(self, patience_ps: int, demand: DemandMeter,
                 on_refused: Callable[[Request, str], None]) -> None:
        self.demand = demand
        self._patience_ps = patience_ps
        self._on_refused = on_refused
        self._held: deque[tuple[int, Request]] = deque()
        self._since_ps: dict[int, int] = {}  # of requests that were released and may return

    def hold(self, request: Request, now_ps: int) -> None:
        """Keep a request."""
        since_ps = self._since_ps.pop(request.request_id, now_ps)
        self._held.append((since_ps, request))
        self.demand.held(request, 1)

    def release(self) -> list[Request]:
        """Return all kept requests, which are sent once more. Those that come back go on to
        wait."""
        self._since_ps = {request.request_id: since_ps for since_ps, request in self._held}
        found = [request for _, request in self._held]
        self._held.clear()
        for request in found:
            self.demand.held(request, -1)
        return found

    def give_up(self, now_ps: int) -> list[Request]:
        """Refuse the requests that have waited for too long, and return them."""
        found: list[Request] = []
        while self._held and now_ps - self._held[0][0] >= self._patience_ps:
            request = self._held.popleft()[1]
            self.demand.held(request, -1)
            self._on_refused(request, HELD_TOO_LONG)
            found.append(request)
        return found
