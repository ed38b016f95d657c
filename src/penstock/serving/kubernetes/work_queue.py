"""Fleets that want a look, each by itself: one that the cluster refuses holds no other up."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from penstock.serving.kubernetes.objects import Ref

APART_S = 0.2
"""Time for which changes are gathered before they are acted upon, and the first wait after a
failure."""

MOST_APART_S = 30.0
"""Longest wait after a failure."""

AT_ONCE = 16
"""Most Fleets at work at a time: of the API server's connections, watches take some."""


class WorkQueue:
    """Fleets that want work. Each is worked on once at a time, and once more where it was added
    meanwhile. One whose work failed waits, ever longer. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due_s: dict[Ref, float] = {}
        self._held_s: dict[Ref, float] = {}
        self._failures: dict[Ref, int] = {}
        self._busy: set[Ref] = set()
        self._changed = asyncio.Event()

    def add(self, key: Ref) -> None:
        """Ask for work on a Fleet."""
        if key not in self._due_s:
            self._due_s[key] = self._clock() + APART_S
            self._changed.set()

    def forget(self, key: Ref) -> None:
        """Forget the failures of a Fleet."""
        self._held_s.pop(key, None)
        self._failures.pop(key, None)

    def got_on(self, key: Ref) -> None:
        """Count failures anew: a step was carried out. Where a server refuses one request of three,
        a look of ten steps hardly ever ends well, and takes a step or two each time."""
        self._failures.pop(key, None)

    def failed(self, key: Ref, least_s: float = 0.0) -> None:
        """Ask for work once more, after a wait that grows, and of ``least_s`` at least."""
        times = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = max(least_s, min(MOST_APART_S, APART_S * 2.0 ** min(times - 1, 20)))
        self._held_s[key] = self._clock() + wait_s
        self.add(key)

    async def run(self, work: Callable[[Ref], Awaitable[None]]) -> None:
        """Work until cancelled. What was at work is cancelled with it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    key = await self._next()
                    self._busy.add(key)
                    tasks.create_task(self._one(key, work))
        finally:
            self._busy.clear()

    async def _one(self, key: Ref, work: Callable[[Ref], Awaitable[None]]) -> None:
        try:
            await work(key)
        finally:
            self._busy.discard(key)
            self._changed.set()

    async def _next(self) -> Ref:
        while True:
            self._changed.clear()
            free = {key: max(due_s, self._held_s.get(key, due_s))
                    for key, due_s in self._due_s.items() if key not in self._busy}
            wait_s = None
            if free and len(self._busy) < AT_ONCE:
                key = min(free, key=lambda key: free[key])
                wait_s = free[key] - self._clock()
                if wait_s <= 0.0:
                    del self._due_s[key]
                    return key
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
