"""The time of emulated engines: an event loop's clock, sped up or slowed down."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable

from penstock.core.units import PS_PER_S, to_ps


class EngineClock:
    """Engine time in whole picoseconds since the clock was created.

    ``speed`` engine seconds pass per second of ``loop``. Engines of one cluster share a clock. The
    loop's own clock is monotonic, and so is this one.
    """

    def __init__(self, loop: AbstractEventLoop, speed: float = 1.0) -> None:
        self.speed = speed
        self._loop = loop
        self._origin_s = loop.time()

    def now_ps(self) -> int:
        """The present moment."""
        return to_ps((self._loop.time() - self._origin_s) * self.speed)

    def call_at(self, moment_ps: int, callback: Callable[[], object]) -> TimerHandle:
        """Call ``callback`` at ``moment_ps`` or slightly later."""
        return self._loop.call_at(self._origin_s + moment_ps / PS_PER_S / self.speed, callback)
