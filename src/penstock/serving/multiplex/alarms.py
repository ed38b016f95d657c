"""Timers that ask the policy about a device again if nothing happens before."""

import asyncio
from collections.abc import Callable


class Alarms:
    """One timer for each of ``num`` devices, at the earliest time that was set. ``ring`` gets the
    device's index."""

    def __init__(self, num: int, loop: asyncio.AbstractEventLoop,
                 ring: Callable[[int], None]) -> None:
        self._set: list[tuple[float, asyncio.TimerHandle] | None] = [None] * num
        self._loop = loop
        self._ring = ring

    def set(self, index: int, at_s: float) -> None:
        """Set the timer to that time, unless it is already set to an earlier one."""
        found = self._set[index]
        if found is not None:
            if found[0] <= at_s:
                return
            found[1].cancel()
        self._set[index] = (at_s, self._loop.call_at(at_s, lambda: self._due(index)))

    def close(self) -> None:
        """Cancel all timers."""
        for found in self._set:
            if found is not None:
                found[1].cancel()

    def _due(self, index: int) -> None:
        self._set[index] = None
        self._ring(index)
