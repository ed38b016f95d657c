"""The event kernel: all events of a simulation in one order of time."""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Final

NEVER_PS: Final = (1 << 62) - 1
"""Later than any time, and the largest integer that native code keeps unboxed."""

NO_SOURCE: Final = -1


class EventSource:
    """A part of a simulation with a next event: a replica whose steps end, a pool whose loads end.

    ``number`` is its place among the kernel's sources. ``due_ps`` is the time of its next commit,
    NEVER_PS where it waits for others. The source changes it only in the methods below and when it
    takes an arrival. ``on_ended`` is called with the number of each request that is over at the
    source, and the time.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.due_ps = NEVER_PS
        self.on_ended: Callable[[int, int], None] | None = None

    def commit(self, now_ps: int) -> None:
        """Process everything that ends now. Afterwards ``due_ps`` is later."""
        raise NotImplementedError

    def plan(self, now_ps: int) -> None:
        """Begin new work, once all events of this instant are known."""
        raise NotImplementedError

    def stop(self, now_ps: int) -> None:
        """End the run: keep finished work, drop the rest."""
        raise NotImplementedError


class Arrivals:
    """Arrivals from outside, in order of time. ``due_ps`` is the time of the next one."""

    def __init__(self) -> None:
        self.due_ps = NEVER_PS

    def deliver(self, now_ps: int) -> int:
        """Deliver the next arrival. Returns the number of the source that took it, NO_SOURCE if
        none did."""
        raise NotImplementedError


class Kernel:
    """Runs event sources and their arrivals.

    Order is total: (time, commits before arrivals before plans, number of the source). All that
    happens at an instant is taken in before anything is planned at it, so no decision depends on
    the order in which equal times were queued.
    """

    def __init__(self, sources: Sequence[EventSource], arrivals: Arrivals) -> None:
        self._sources = list(sources)
        self._arrivals = arrivals
        self._queue: list[tuple[int, int]] = []  # (due, number of the source)
        self._queued = [source.due_ps for source in sources]  # the latest queued time of each
        for number, source in enumerate(sources):
            if source.due_ps < NEVER_PS:
                heappush(self._queue, (source.due_ps, number))
        self.now_ps = 0

    def run(self, on_instant: Callable[[int], None] | None = None,
            until_ps: int = NEVER_PS) -> None:
        """Simulate until nothing is due any more, or the clock passes ``until_ps``."""
        arrivals, sources, queued = self._arrivals, self._sources, self._queued
        until_ps = min(until_ps, NEVER_PS)
        while True:
            due_ps = self._next_due()
            now_ps = min(due_ps, arrivals.due_ps)
            if now_ps >= until_ps:
                self._stop(until_ps)
                return
            self.now_ps = now_ps
            touched = self._commit_due(now_ps) if due_ps == now_ps else []
            while arrivals.due_ps <= now_ps:
                number = arrivals.deliver(now_ps)
                if number >= 0 and number not in touched:
                    touched.append(number)
            if len(touched) > 1:
                touched.sort()
            for number in touched:
                source = sources[number]
                source.plan(now_ps)
                if source.due_ps != queued[number]:
                    queued[number] = source.due_ps
                    if source.due_ps < NEVER_PS:
                        heappush(self._queue, (source.due_ps, number))
            if on_instant is not None:
                on_instant(now_ps)

    def _stop(self, until_ps: int) -> None:
        """End at ``until_ps``, or at the last event if that was earlier."""
        if any(source.due_ps < NEVER_PS for source in self._sources):
            self.now_ps = until_ps
        for source in self._sources:
            source.stop(until_ps)

    def _next_due(self) -> int:
        queue = self._queue
        while queue:
            due_ps, number = queue[0]
            if self._sources[number].due_ps == due_ps:
                return due_ps
            heappop(queue)  # the source's next event has changed since
            if self._queued[number] == due_ps:
                self._queued[number] = NEVER_PS
        return NEVER_PS

    def _commit_due(self, now_ps: int) -> list[int]:
        touched: list[int] = []
        while True:
            _, number = heappop(self._queue)
            self._queued[number] = NEVER_PS
            self._sources[number].commit(now_ps)
            touched.append(number)
            if not self._queue or self._next_due() > now_ps:
                return touched
