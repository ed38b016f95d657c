"""Memory of sizes that did not hold a steady load, so that a fleet does not return to them."""

from collections import deque
from math import log
from typing import NamedTuple

from penstock.policy.scale.history import History

FORGET_S = 24 * 3600.0
SAME_LOAD = 0.05
"""Share by which a rate may be below a remembered one and still count as the same: chance moves the
mean rate of a few minutes by so much."""

_SAME_WORK = 0.15  # difference of the logarithms of two rates of a replica
_MOST_KEPT = 256


class Steady(NamedTuple):
    """A load that did not change for some minutes: arrivals per second, the size of the fleet in
    replicas of the first group, and the believed rate of such a replica."""

    rate_per_s: float
    size: float
    replica_per_s: float


STEADY_S = 120.0
"""Time for which a load and a size must not have changed, so that misses tell of the size."""

_STEADY = 0.1


class Failures:
    """Steady loads under which more requests missed their objectives than may, for a day."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, Steady]] = deque(maxlen=_MOST_KEPT)
        self._sizes = History[float](STEADY_S)

    def is_steady(self, now_s: float, size: float, rate_per_s: float, late_per_s: float) -> bool:
        """Add the present size. Returns whether neither the size nor the rate has changed: the mean
        rate since ``STEADY_S`` and that of late."""
        self._sizes.add(now_s, size)
        sizes = self._sizes.since(now_s - STEADY_S)
        return (size > 0.0 and self._sizes.span_s >= STEADY_S
                and max(sizes) - min(sizes) <= _STEADY * size
                and abs(late_per_s - rate_per_s) <= _STEADY * rate_per_s)

    def add(self, now_s: float, load: Steady) -> None:
        """Remember that a size failed."""
        self._seen.append((now_s, load))

    def largest(self, now_s: float, rate_per_s: float, replica_per_s: float) -> float:
        """Return the largest size that failed at this rate or a lower one, for requests of about
        the same work; 0 where none is known."""
        while self._seen and self._seen[0][0] < now_s - FORGET_S:
            self._seen.popleft()
        return max((one.size for _, one in self._seen
                    if one.rate_per_s <= rate_per_s * (1.0 + SAME_LOAD)
                    and abs(log(one.replica_per_s / replica_per_s)) <= _SAME_WORK), default=0.0)
