"""A clock that stands still until it is told to move, for what would otherwise have to sleep."""

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from math import inf


@dataclass(order=True)
class FakeTimer:
    when_s: float
    serial: int
    callback: Callable[[], object] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """The part of an event loop that knows of time. Timers fire late by what ``late_s`` draws."""

    def __init__(self, late_s: Callable[[], float] = lambda: 0.0) -> None:
        self.now_s = 0.0
        self._late_s = late_s
        self._timers: list[FakeTimer] = []
        self._serials = count()

    def time(self) -> float:
        return self.now_s

    def call_at(self, when_s: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(max(when_s, self.now_s) + self._late_s(), next(self._serials), callback)
        heapq.heappush(self._timers, timer)
        return timer

    @property
    def next_s(self) -> float:
        """When the next timer fires."""
        while self._timers and self._timers[0].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0].when_s if self._timers else inf

    def fire(self) -> None:
        """Call back whatever is due."""
        while self.next_s <= self.now_s:
            heapq.heappop(self._timers).callback()


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def play(loop: FakeLoop, calls: Iterable[tuple[float, Callable[[], object]]]) -> None:
    """Make ``calls`` at their times (sorted, seconds) and let time pass until nothing is due.

    What is called at a moment is called before timers of that moment fire.
    """
    coming = list(calls)
    await settle()
    while coming or loop.next_s < inf:
        loop.now_s = max(loop.now_s, min(coming[0][0] if coming else inf, loop.next_s))
        while coming and coming[0][0] <= loop.now_s:
            coming.pop(0)[1]()
        loop.fire()
        await settle()
