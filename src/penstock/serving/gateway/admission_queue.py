"""Queue of requests that wait while all engines are full: by urgency, then by arrival."""

import heapq
import math
from collections.abc import Callable
from functools import partial
from itertools import count

from penstock.core.slo import Slo
from penstock.serving.errors import ServiceError
from penstock.serving.waiting_list import WaitingList

MOST_WAIT_S = 60.0
_NEWEST = 0.1  # weight of the newest value in the mean time between departures


class AdmissionQueue:
    """Admits ``max_in_flight`` requests at once, while up to ``max_queue`` others wait.

    A lower priority number is more urgent. A request that cannot meet its deadline is rejected at
    once, with the expected wait; a request that finds the queue full is rejected, too. One event
    loop owns the queue.
    """

    def __init__(self, max_in_flight: int, max_queue: int, clock: Callable[[], float]) -> None:
        self.num_in_flight = 0
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._clock = clock
        self._numbers = count()
        self._order: list[tuple[int, int]] = []  # (priority, number), including some that have left
        # A place that becomes free in the moment in which its caller leaves goes to the next
        # caller.
        self._waiting: WaitingList[int, None] = WaitingList(unused=lambda _: self.leave())
        self._between_s: float | None = None
        self._left_s = 0.0

    @property
    def num_waiting(self) -> int:
        """Number of requests that wait for a place."""
        return len(self._waiting)

    async def enter(self, priority: int, slo: Slo) -> None:
        """Wait for a place, which ``leave`` gives back. Raises ServiceError where the request is
        rejected."""
        if self.num_in_flight < self._max_in_flight and not self._waiting:
            self.num_in_flight += 1
        else:
            await self._wait(priority, slo)

    async def _wait(self, priority: int, slo: Slo) -> None:
        """Wait until this caller has been given a place."""
        most_s = min(MOST_WAIT_S, slo.ttft_s or MOST_WAIT_S, slo.e2e_s or MOST_WAIT_S)
        ahead = sum(1 for other, number in self._order
                    if other <= priority and number in self._waiting)
        expected_s = None if self._between_s is None else self._between_s * (ahead + 1)
        if self.num_waiting >= self._max_queue:
            raise _refused(f"{self.num_in_flight} requests are in flight and {self.num_waiting} "
                           "wait, as many as this gateway takes", "too_many_requests", expected_s)
        if expected_s is not None and expected_s > most_s:
            raise _refused(f"it would wait about {expected_s:.1f} s for its turn, which leaves no "
                           f"time: its first token is due in {most_s:g} s", "deadline", expected_s)
        if not self.num_waiting:
            self._order.clear()
            self._left_s = self._clock()
        number = next(self._numbers)
        heapq.heappush(self._order, (priority, number))
        late = _refused(f"it waited {most_s:g} s for its turn", "deadline", expected_s)
        await self._waiting.wait(number, self._waiting.add(
            number, most_s, partial(self._waiting.refuse, error=late)))

    def leave(self) -> None:
        """Give a place back. The most urgent waiting request takes it."""
        if self.num_waiting:  # only then the interval measures how fast places become free
            now_s = self._clock()
            gap_s, self._left_s = now_s - self._left_s, now_s
            before_s = gap_s if self._between_s is None else self._between_s
            self._between_s = before_s + _NEWEST * (gap_s - before_s)
        while self._order:
            _, number = heapq.heappop(self._order)
            if self._waiting.serve(number, None):
                return
        self.num_in_flight -= 1


def _refused(why: str, code: str, expected_s: float | None) -> ServiceError:
    after_s = max(1, math.ceil(min(expected_s or 1.0, MOST_WAIT_S)))
    return ServiceError(429, f"{why}; try again in {after_s} s", code,
                        headers={"Retry-After": str(after_s)})
