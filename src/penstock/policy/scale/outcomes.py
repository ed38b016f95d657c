"""Requests of each class that ended of late, and how many of them missed their objectives."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.core.slo import ServiceClass
from penstock.policy.scale.values import SeenDemand


class Misses(NamedTuple):
    """Share of the requests of a time that missed, and the share that may, of the worst class; both
    are 0 where no request ended."""

    elapsed_s: float
    share: float
    allowed: float

    def excess(self, spent_share: float) -> float:
        """Return the share beyond ``spent_share`` of those that may miss, negative below."""
        return self.share - spent_share * self.allowed


class _Seen(NamedTuple):
    """Requests that ended, and those of them in time, by class, as at ``at_s``."""

    at_s: float
    ends: tuple[tuple[int, int], ...]


class Outcomes:
    """Counts ends by class. A lost request has missed."""

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self._classes = classes
        self._before: _Seen | None = None

    def add(self, now_s: float, demand: Sequence[SeenDemand], spent_share: float) -> Misses | None:
        """Add the counters. Returns the misses since they were added before, of the class with the
        largest excess over ``spent_share``; None the first time, and for other classes than
        then."""
        ends = tuple((one.num_ended, one.num_met) for one in demand)
        before, self._before = self._before, _Seen(now_s, ends)
        if before is None or len(before.ends) != len(ends) or now_s <= before.at_s:
            return None
        elapsed_s = now_s - before.at_s
        found = [Misses(elapsed_s, 1.0 - (now[1] - then[1]) / (now[0] - then[0]),
                        self._classes[one.service_class].slo.allowed_misses)
                 for one, now, then in zip(demand, ends, before.ends, strict=True)
                 if now[0] > then[0]]
        return max(found, key=lambda one: one.excess(spent_share),
                   default=Misses(elapsed_s, 0.0, 0.0))
