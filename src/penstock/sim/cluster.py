"""The event kernel: arrivals and replicas in one order of time."""

import heapq
from collections.abc import Callable, Iterable, Sequence

from penstock.core.request import Request
from penstock.core.units import to_ps
from penstock.sim.dispatch import Dispatcher
from penstock.sim.replica import SimReplica

NEVER_PS = 1 << 62


class Cluster:
    """Runs requests through routed replicas.

    Order is total: (time, commits before arrivals before plans, serial number). All that happens
    at an instant is taken in before anything is planned at it, so no decision depends on the order
    in which equal times were queued.
    """

    def __init__(self, replicas: Sequence[SimReplica], dispatcher: Dispatcher,
                 on_refused: Callable[[Request, str], None]) -> None:
        self._replicas = replicas
        self._dispatcher = dispatcher
        self._on_refused = on_refused
        self._due: list[tuple[int, int]] = []  # (end of run, replica)
        self.now_ps = 0

    def run(self, requests: Iterable[Request], on_instant: Callable[[int], None] | None = None,
            until_ps: int = NEVER_PS) -> None:
        """Simulate until all requests have ended, or the clock passes ``until_ps``."""
        stream = iter(requests)
        upcoming = next(stream, None)
        arrival_ps = to_ps(upcoming.arrival_s) if upcoming else NEVER_PS
        while True:
            due_ps = self._next_due()
            now_ps = min(due_ps, arrival_ps)
            if now_ps >= until_ps:
                self._stop(until_ps)
                break
            self.now_ps = now_ps
            touched = self._commit_due(now_ps) if due_ps == now_ps else []
            while upcoming is not None and arrival_ps <= now_ps:
                index = self._deliver(upcoming, now_ps)
                if index >= 0 and index not in touched:
                    touched.append(index)
                upcoming = next(stream, None)
                arrival_ps = to_ps(upcoming.arrival_s) if upcoming else NEVER_PS
            if len(touched) > 1:
                touched.sort()
            for index in touched:
                replica = self._replicas[index]
                self._dispatcher.changed(index)
                if not replica.busy and replica.begin(now_ps):
                    heapq.heappush(self._due, (replica.end_ps, index))
                self._dispatcher.learn(index)
            if on_instant is not None:
                on_instant(now_ps)

    def _stop(self, until_ps: int) -> None:
        """End at ``until_ps``, or where the last request ended if that was earlier."""
        if any(replica.busy for replica in self._replicas):
            self.now_ps = until_ps
        for replica in self._replicas:
            replica.stop(until_ps)

    def _next_due(self) -> int:
        due = self._due
        while due:
            end_ps, index = due[0]
            replica = self._replicas[index]
            if replica.busy and replica.end_ps == end_ps:
                return end_ps
            heapq.heappop(due)  # the run was shortened since
        return NEVER_PS

    def _commit_due(self, now_ps: int) -> list[int]:
        touched: list[int] = []
        while True:
            _, index = heapq.heappop(self._due)
            self._replicas[index].finish()
            self._dispatcher.changed(index)
            self._dispatcher.learn(index)
            touched.append(index)
            if not self._due or self._next_due() > now_ps:
                return touched

    def _deliver(self, request: Request, now_ps: int) -> int:
        index = self._dispatcher.choose(request, now_ps)
        if index < 0:
            return -1
        self._dispatcher.changed(index)
        replica = self._replicas[index]
        end_ps = replica.end_ps
        reason = replica.arrive(request, now_ps)
        if reason is not None:
            self._dispatcher.turned_away(request)
            self._on_refused(request, reason)
        elif replica.busy and replica.end_ps != end_ps:
            heapq.heappush(self._due, (replica.end_ps, index))
        return index
