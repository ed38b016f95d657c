"""Requests that are not sent yet, and when the next is."""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Protocol

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.sim.kernel import NEVER_PS
from penstock.workload.workload import Loops


class Upcoming(Protocol):
    """Requests to be sent. ``due_ps`` is the time of the next, NEVER_PS where there is none yet."""

    due_ps: int

    def take(self) -> Request:
        """Return the next request, which is sent at ``due_ps``."""

    def ended(self, request_id: int, now_ps: int) -> None:
        """Take note that a request has ended."""


class InOrder:
    """Requests at their own times."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests: Iterator[Request] = iter(requests)
        self._next: Request | None = None
        self.due_ps = NEVER_PS
        self._advance()

    def take(self) -> Request:
        """Return the next request, which is sent at ``due_ps``."""
        request = self._next
        assert request is not None, "a request is due"
        self._advance()
        return request

    def ended(self, request_id: int, now_ps: int) -> None:
        """Do nothing: no request waits for another."""

    def _advance(self) -> None:
        upcoming = self._next = next(self._requests, None)
        self.due_ps = NEVER_PS if upcoming is None else to_ps(upcoming.arrival_s)


class Looped:
    """Requests of which some wait for clients of closed loops. ``arrived_s`` has the times of the
    sent requests by their numbers."""

    def __init__(self, requests: Iterable[Request], loops: Loops) -> None:
        self._loop = loops.index.tolist()
        self._think_s = loops.think_s.tolist()
        self._gap_s = loops.gap_s.tolist()
        self._waiting: list[deque[Request]] = [deque() for _ in loops.starts_s]
        self._due: list[tuple[int, int, Request]] = []
        self.arrived_s: dict[int, float] = {}
        alone: list[Request] = []
        for request in requests:
            loop = self._loop[request.request_id]
            (alone if loop < 0 else self._waiting[loop]).append(request)
        self._alone = InOrder(alone)
        self.due_ps = NEVER_PS
        for loop, starts_s in enumerate(loops.starts_s):
            for start_s in starts_s.tolist():
                self._send_next(loop, to_ps(start_s), 0)
        self._show_due()

    def take(self) -> Request:
        """Return the next request, which is sent at ``due_ps``. Clients come after the others."""
        if self._alone.due_ps == self.due_ps:
            request = self._alone.take()
        else:
            due_ps, _, request = heappop(self._due)
            request = request._replace(arrival_s=due_ps / PS_PER_S)
        self.arrived_s[request.request_id] = request.arrival_s
        self._show_due()
        return request

    def ended(self, request_id: int, now_ps: int) -> None:
        """Let the client of an ended request send its next."""
        loop = self._loop[request_id]
        if loop >= 0:
            self._send_next(loop, now_ps, to_ps(self.arrived_s[request_id]))
            self._show_due()

    def _send_next(self, loop: int, free_ps: int, last_sent_ps: int) -> None:
        """Let a client of the loop send, who is free from ``free_ps`` on."""
        if self._waiting[loop]:
            request = self._waiting[loop].popleft()
            due_ps = max(free_ps + to_ps(self._think_s[request.request_id]),
                         last_sent_ps + to_ps(self._gap_s[request.request_id]))
            heappush(self._due, (due_ps, request.request_id, request))

    def _show_due(self) -> None:
        self.due_ps = min(self._alone.due_ps, self._due[0][0] if self._due else NEVER_PS)
