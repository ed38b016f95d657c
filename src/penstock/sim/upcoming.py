"""Requests that are not sent yet, and when the next is."""

from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Protocol

from penstock.core.request import Request
from penstock.core.units import PS_PER_S, to_ps
from penstock.sim.kernel import NEVER_PS
from penstock.workload.turns import Turns
from penstock.workload.workload import Workload


class Upcoming(Protocol):
    """Requests to be sent. ``due_ps`` is the time of the next, NEVER_PS where there is none yet."""

    due_ps: int

    def take(self) -> Request:
        """Return the next request, which is sent at ``due_ps``."""

    def ended(self, request_id: int, now_ps: int) -> None:
        """Take note that a request has ended."""


class InOrder(Upcoming):
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


class Dependent(Upcoming):
    """Requests of which some wait for clients of closed loops, or for other requests. ``arrived_s``
    has the times of the sent requests by their numbers."""

    def __init__(self, requests: Iterable[Request], workload: Workload) -> None:
        loops, num = workload.loops, len(workload)
        self._loop: list[int] = [-1] * num if loops is None else loops.index.tolist()
        self._think_s: list[float] = [] if loops is None else loops.think_s.tolist()
        self._turns = None if workload.links is None else Turns(workload.links, num)
        self._of_loop: list[deque[Request]] = [
            deque() for _ in (() if loops is None else loops.starts_s)]
        self._linked: dict[int, Request] = {}
        self._due: list[tuple[int, int, Request]] = []
        self.arrived_s: dict[int, float] = {}
        alone: list[Request] = []
        for request in requests:
            number = request.request_id
            if self._loop[number] >= 0:
                self._of_loop[self._loop[number]].append(request)
            elif self._turns is not None and self._turns.waits(number):
                self._linked[number] = request
            else:
                alone.append(request)
        self._alone = InOrder(alone)
        self.due_ps = NEVER_PS
        for loop, starts_s in enumerate(() if loops is None else loops.starts_s):
            for start_s in starts_s.tolist():
                self._send_next(loop, to_ps(start_s))
        self._show_due()

    def take(self) -> Request:
        """Return the next request, which is sent at ``due_ps``. Requests that waited come after the
        others."""
        now_ps = self.due_ps
        if self._alone.due_ps == now_ps:
            request = self._alone.take()
        else:
            _, _, request = heappop(self._due)
            request = request._replace(arrival_s=now_ps / PS_PER_S)
        self.arrived_s[request.request_id] = request.arrival_s
        if self._turns is not None:
            self._send(self._turns.sent(request.request_id, now_ps))
        self._show_due()
        return request

    def ended(self, request_id: int, now_ps: int) -> None:
        """Let a client send its next request, and let those go that waited for this one."""
        loop = self._loop[request_id]
        if loop >= 0:
            self._send_next(loop, now_ps)
        if self._turns is not None:
            self._send(self._turns.ended(request_id, now_ps))
        self._show_due()

    def _send_next(self, loop: int, free_ps: int) -> None:
        """Let a client of the loop send, who is free from ``free_ps`` on."""
        if self._of_loop[loop]:
            request = self._of_loop[loop].popleft()
            due_ps = free_ps + to_ps(self._think_s[request.request_id])
            heappush(self._due, (due_ps, request.request_id, request))

    def _send(self, due: list[tuple[int, int]]) -> None:
        """Let requests go that wait for nothing but time."""
        for due_ps, number in due:
            heappush(self._due, (due_ps, number, self._linked.pop(number)))

    def _show_due(self) -> None:
        self.due_ps = min(self._alone.due_ps, self._due[0][0] if self._due else NEVER_PS)
