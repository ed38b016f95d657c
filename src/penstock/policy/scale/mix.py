"""Numbers of replicas of the groups that serve one model: growth, reduction and exchange.

What grows keeps every replica, and what is reduced starts none: groups whose replicas cost about as
much for their rates would change places with every change of the lengths. Replicas are exchanged
for those of a cheaper group on their own account.
"""

from collections.abc import Callable, Sequence
from math import exp

from penstock.policy.scale.cheapest import cheapest_counts, next_best
from penstock.policy.scale.protocol import GroupFacts

FORGET_S = 3600.0
"""Time after which what the present replicas have cost too much has lost most of its weight."""

_STARTS = 2.0  # start times that replicas have to be ready before those they replace may go

_LOOK_S = 60.0  # time between two comparisons of the present replicas with the cheapest

Counts = tuple[int, ...]


def size(counts: Sequence[int], worth: Sequence[float]) -> float:
    """Return what so many replicas of each group are worth, or cost, together."""
    return sum(count * each for count, each in zip(counts, worth, strict=True))


class Mix:
    """Chooses numbers of replicas for a need, by the ``worth`` of one replica of each group, which
    both have the same unit.

    Replicas are exchanged once the present ones have cost more than the cheapest by what the starts
    of the others cost: in all, that costs at most twice as much as to know what comes (skis are
    bought once their rent has reached their price; Karlin et al. 1988).
    """

    def __init__(self, facts: Sequence[GroupFacts]) -> None:
        self._floors = tuple(one.floor for one in facts)
        self._ceilings = tuple(one.ceiling for one in facts)
        self._costs = tuple(one.weight for one in facts)
        self._starts_s = tuple(one.start_s for one in facts)
        self._too_much = 0.0  # cost per hour times seconds
        self._looked_s: float | None = None
        self._until_s = 0.0  # when replicas that replace others should be ready

    def grown(self, present: Sequence[int], worth: Sequence[float], need: float) -> Counts:
        """Return the present replicas with the cheapest further ones that cover the need; all that
        may be, where the need is larger."""
        return self._cheapest(need, worth, self._within(present), self._ceilings)

    def reduced(self, present: Sequence[int], ready: Sequence[int], worth: Sequence[float],
                need: float, now_s: float) -> Counts | None:
        """Return the cheapest of the present replicas that cover the need; None where that takes
        all, or while replicas start that are to replace others."""
        starting = any(one < count for one, count in zip(ready, present, strict=True))
        if starting and now_s < self._until_s:
            return None
        # Replicas that are ready go only for others that are ready.
        kept = tuple(map(min, present, ready))
        most = kept if size(kept, worth) >= need else present
        counts = self._cheapest(need, worth, self._floors, self._within(most))
        return counts if size(counts, worth) < size(present, worth) - 1e-9 else None

    def exchanged(self, present: Sequence[int], worth: Sequence[float], need: float, now_s: float
                  ) -> Counts | None:
        """Return the present replicas with those that are to replace some of them; None where
        nothing is to be gained, or not yet."""
        elapsed_s = _LOOK_S if self._looked_s is None else now_s - self._looked_s
        if elapsed_s < _LOOK_S:
            return None
        self._looked_s = now_s
        best = self._cheapest(need, worth, self._floors, self._ceilings)
        kept = self._cheapest(need, worth, self._floors, self._within(present))
        saving = max(0.0, size(kept, self._costs) - size(best, self._costs))
        self._too_much = self._too_much * exp(-elapsed_s / FORGET_S) + saving * elapsed_s
        wanted = tuple(map(max, present, best))
        starts = sum((more - count) * cost * start_s for more, count, cost, start_s in zip(
            wanted, present, self._costs, self._starts_s, strict=True))
        if wanted == tuple(present) or not saving or self._too_much <= starts:
            return None
        self._too_much = 0.0
        self._until_s = now_s + _STARTS * max(self._starts_s)
        return wanted

    def next_best(self, counts: Sequence[int], share: Callable[[Sequence[int]], float]
                  ) -> Counts | None:
        """Return the best of the other counts, as ``cheapest.next_best`` says."""
        return next_best(counts, list(zip(self._floors, self._ceilings, strict=True)),
                         self._costs, share)

    def _cheapest(self, need: float, worth: Sequence[float], least: Sequence[int],
                  most: Sequence[int]) -> Counts:
        return cheapest_counts(need, worth, self._costs, list(zip(least, most, strict=True)))

    def _within(self, counts: Sequence[int]) -> Counts:
        """Return the nearest counts within the bounds."""
        return tuple(min(max(count, floor), ceiling) for count, floor, ceiling in zip(
            counts, self._floors, self._ceilings, strict=True))
