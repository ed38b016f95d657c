"""A list of waiting callers: futures, timers, and the race between service and cancellation."""

import asyncio
from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def _ignored(_: object) -> None:
    """Do nothing."""


class WaitingList(Generic[K, T]):
    """Callers that wait, each under a key of its own, each for one value. One event loop owns it.

    Every caller ends exactly once: it is served a value, it is refused with an error, or it leaves
    because its task is cancelled. The owner of the list decides which caller is served, and when.

    ``left`` gets a key whose caller left while it waited, unless ``serve`` or ``refuse`` returned
    False for the key before. ``unused`` gets a value back whose caller left in the moment in which
    it was served. ``loop`` gives the time and calls back; None means the running event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *,
                 left: Callable[[K], None] = _ignored,
                 unused: Callable[[T], None] = _ignored) -> None:
        self._loop = loop
        self._left = left
        self._unused = unused
        self._futures: dict[K, asyncio.Future[T]] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def __contains__(self, key: object) -> bool:
        return key in self._futures

    def add(self, key: K, timeout_s: float = inf,
            expired: Callable[[K], object] = _ignored) -> "asyncio.Future[T]":
        """Begin the wait of a caller, which passes the future to ``wait`` next. After ``timeout_s``
        the key goes to ``expired``, which must refuse it."""
        found: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._futures[key] = found
        if timeout_s < inf:
            loop = self._loop or asyncio.get_running_loop()
            self._timers[key] = loop.call_at(loop.time() + timeout_s, lambda: expired(key))
        return found

    async def wait(self, key: K, value: "asyncio.Future[T]") -> T:
        """Wait for the value with which the caller is served. Raises the error with which it is
        refused."""
        try:
            return await value
        except asyncio.CancelledError:
            if self._futures.get(key) is value:
                self._remove(key)
                self._left(key)
            elif not value.cancelled() and value.exception() is None:
                self._unused(value.result())
            raise

    def serve(self, key: K, value: T) -> bool:
        """Serve a caller. Returns False where it has left; the owner then keeps the value."""
        future = self._remove(key)
        if future is None or future.done():
            return False
        future.set_result(value)
        return True

    def refuse(self, key: K, error: Exception) -> bool:
        """Refuse a caller. Returns False where it has left."""
        future = self._remove(key)
        if future is None or future.done():
            return False
        future.set_exception(error)
        return True

    def _remove(self, key: K) -> "asyncio.Future[Any] | None":
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        return self._futures.pop(key, None)
