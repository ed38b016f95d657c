"""Memory of the rates at which a fleet had to grow, so that the fleet does not shrink back."""

from collections import deque
from math import log
from typing import Final, NamedTuple

FORGET_S: Final = 24 * 3600.0
SETTLE_S: Final = 300.0
"""Time after a growth whose mean rate is the one that asked for the growth: before, chance may have
raised the rate."""

SPARE_RATE: Final = 1.1
"""Ratio of a remembered rate over the present one up to which the fleet would soon grow again."""

_SAME_WORK: Final = 0.15  # difference of the logarithms of two rates of a replica
_MOST_KEPT: Final = 256


class Growth(NamedTuple):
    """The size of a fleet before more replicas were ordered, in replicas of the first group, the
    rate of such a replica, the arrivals per second that asked for more, and the mean arrivals per
    second since; 0 while they settle."""

    size: float
    replica_per_s: float
    asked_per_s: float
    rate_per_s: float = 0.0


class Grown:
    """Growths of the last day."""

    def __init__(self) -> None:
        self._settling: deque[tuple[float, Growth]] = deque()
        self._seen: deque[tuple[float, Growth]] = deque(maxlen=_MOST_KEPT)

    def add(self, now_s: float, growth: Growth) -> None:
        """Remember a growth."""
        self._settling.append((now_s, growth))

    def largest(self, now_s: float, rate_per_s: float, replica_per_s: float) -> float:
        """Return the largest size from which the fleet grew at about ``rate_per_s``, the mean of
        the last ``SETTLE_S``, or at a lower rate, for requests of about the same work; 0 where
        there is none."""
        while self._settling and self._settling[0][0] <= now_s - SETTLE_S:
            at_s, growth = self._settling.popleft()
            if rate_per_s * SPARE_RATE >= growth.asked_per_s:  # else a burst that has passed
                self._seen.append((at_s, growth._replace(rate_per_s=rate_per_s)))
        while self._seen and self._seen[0][0] < now_s - FORGET_S:
            self._seen.popleft()
        return max((one.size for _, one in (*self._seen, *self._settling)
                    if one.rate_per_s <= rate_per_s * SPARE_RATE
                    and abs(log(one.replica_per_s / replica_per_s)) <= _SAME_WORK), default=0.0)
