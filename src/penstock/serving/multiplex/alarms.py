"""When each device is to be asked again, if nothing happens before."""

import asyncio
from collections.abc import Callable


class Alarms:
    """One alarm for each of ``num`` devices, the earliest that was set; ``ring`` is told whose it
    was."""

    def __init__(self, num: int, loop: asyncio.AbstractEventLoop,
                 ring: Callable[[int], None]) -> None:
        self._set: list[tuple[float, asyncio.TimerHandle] | None] = [None] * num
        self._loop = loop
        self._ring = ring

    def set(self, index: int, at_s: float) -> None:
        """Ring at that time, unless it is to ring before."""
        found = self._set[index]
        if found is not None:
            if found[0] <= at_s:
                return
            found[1].cancel()
        self._set[index] = (at_s, self._loop.call_at(at_s, lambda: self._due(index)))

    def close(self) -> None:
        """Ring no more."""
        for found in self._set:
            if found is not None:
                found[1].cancel()

    def _due(self, index: int) -> None:
        self._set[index] = None
        self._ring(index)
