"""Requests of each class that ended of late, and how many of them missed their objectives."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from penstock.core.slo import ServiceClass
from penstock.policy.scale.history import History
from penstock.policy.scale.values import SeenDemand

JUDGED_S = 60.0
_FEWEST_ENDED = 100


class Excess(NamedTuple):
    """Share of the requests of a time that missed beyond what may, of the worst class; negative
    where fewer missed."""

    elapsed_s: float
    share: float


class Outcomes:
    """Counts ends by class. A lost request has missed."""

    def __init__(self, classes: Mapping[str, ServiceClass]) -> None:
        self._classes = classes
        self._ended = History[tuple[tuple[int, int], ...]](JUDGED_S)

    def add(self, now_s: float, demand: Sequence[SeenDemand], spent_share: float) -> Excess | None:
        """Add the counters. Returns the excess over ``spent_share`` of the allowed misses since
        they were added before; None the first time, and for other classes than then."""
        ends = tuple((one.num_finished + one.num_lost, one.num_met) for one in demand)
        before = self._ended.at(now_s)
        self._ended.add(now_s, ends)
        if before is None or len(before[1]) != len(ends) or now_s <= before[0]:
            return None
        return Excess(now_s - before[0], max((
            1.0 - (now[1] - then[1]) / (now[0] - then[0]) - spent_share * self._allowed(one)
            for one, now, then in zip(demand, ends, before[1], strict=True)
            if now[0] > then[0]), default=0.0))

    def failing(self, now_s: float, demand: Sequence[SeenDemand]) -> bool:
        """Whether a class missed more than twice what it may, for a minute."""
        then = self._ended.at(now_s - JUDGED_S)
        if then is None or len(then[1]) != len(demand):
            return False
        for one, (num_ended, num_met) in zip(demand, then[1], strict=True):
            ended = one.num_finished + one.num_lost - num_ended
            missed = ended - (one.num_met - num_met)
            if ended >= _FEWEST_ENDED and missed > 2.0 * self._allowed(one) * ended:
                return True
        return False

    def _allowed(self, one: SeenDemand) -> float:
        return 1.0 - self._classes[one.service_class].slo.percentile / 100.0
