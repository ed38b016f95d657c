"""The event kernel: all events of a simulation in one order of time."""

from collections.abc import Callable, Sequence
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


class Observer:
    """Sees each instant of a simulation, once all of its events have been taken in."""

    def on_instant(self, now_ps: int) -> None:
        """Take note that an instant is over."""
        raise NotImplementedError


class _Match:
    """A match between two winners of the round below: the winner's number, and when it is due. A
    contestant is a match without rivals."""

    __slots__ = ("above", "due_ps", "first", "number", "second")

    def __init__(self, number: int) -> None:
        self.number = number
        self.due_ps = NEVER_PS
        self.above: _Match | None = None  # None for the final
        self.first: _Match | None = None  # of lower numbers than ``second``
        self.second: _Match | None = None


class Tournament:
    """Finds the earliest of numbered contestants; of equals, the lowest number.

    This is the tree of winners (Knuth, volume 3, 5.2.3): a contestant that moves plays only the
    matches on its way to the final again. Native code compares unboxed numbers, where a heap of
    pairs would make an object of each.
    """

    __slots__ = ("_contestants", "_final")

    def __init__(self, num_contestants: int) -> None:
        self._contestants = [_Match(number) for number in range(num_contestants)]
        matches = list(self._contestants)
        while len(matches) > 1:
            matches = [_match(matches[place:place + 2]) for place in range(0, len(matches), 2)]
        self._final = matches[0] if matches else _Match(0)

    @property
    def due_ps(self) -> int:
        """When the earliest is due, NEVER_PS where none is."""
        return self._final.due_ps

    @property
    def number(self) -> int:
        """The number of the earliest."""
        return self._final.number

    def move(self, number: int, due_ps: int) -> None:
        """Let a contestant be due at another time."""
        contestant = self._contestants[number]
        if contestant.due_ps == due_ps:
            return
        contestant.due_ps = due_ps
        match = contestant.above
        while match is not None:
            first, second = match.first, match.second
            assert first is not None
            assert second is not None
            winner = first if first.due_ps <= second.due_ps else second
            match.number = winner.number
            match.due_ps = winner.due_ps
            match = match.above


def _match(rivals: list[_Match]) -> _Match:
    """Return the match between two winners. A winner without a rival goes on to the next round."""
    if len(rivals) == 1:
        return rivals[0]
    first, second = rivals
    found = _Match(first.number)
    found.first, found.second = first, second
    first.above = second.above = found
    return found


class Kernel:
    """Runs event sources and their arrivals.

    Order is total: (time, commits before arrivals before plans, number of the source). All that
    happens at an instant is taken in before anything is planned at it, so no decision depends on
    the order in which equal times were queued.
    """

    def __init__(self, sources: Sequence[EventSource], arrivals: Arrivals) -> None:
        self._sources = list(sources)
        self._arrivals = arrivals
        self._next = Tournament(len(sources))
        for number, source in enumerate(sources):
            self._next.move(number, source.due_ps)
        self.now_ps = 0

    def run(self, observer: Observer | None = None, until_ps: int = NEVER_PS) -> None:
        """Simulate until nothing is due any more, or the clock passes ``until_ps``."""
        arrivals, sources = self._arrivals, self._sources
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
                self._next.move(number, source.due_ps)
            if observer is not None:
                observer.on_instant(now_ps)

    def _stop(self, until_ps: int) -> None:
        """End at ``until_ps``, or at the last event if that was earlier."""
        if any(source.due_ps < NEVER_PS for source in self._sources):
            self.now_ps = until_ps
        for source in self._sources:
            source.stop(until_ps)

    def _next_due(self) -> int:
        upcoming = self._next
        while upcoming.due_ps < NEVER_PS:
            number, due_ps = upcoming.number, upcoming.due_ps
            now_due_ps = self._sources[number].due_ps
            if now_due_ps == due_ps:
                return due_ps
            upcoming.move(number, now_due_ps)  # the source's next event has changed since
        return NEVER_PS

    def _commit_due(self, now_ps: int) -> list[int]:
        touched: list[int] = []
        while True:
            number = self._next.number
            source = self._sources[number]
            source.commit(now_ps)
            self._next.move(number, source.due_ps)
            touched.append(number)
            if self._next_due() > now_ps:
                return touched
