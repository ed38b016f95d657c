"""Cheaper fleets for one demand that are worth a simulation."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import inf

from penstock.plan.estimate import Candidate
from penstock.plan.propose import Choice, Counts

LEAST_SAVING = 0.005
"""A fleet is worth trying when it costs less by at least this part."""

DOUBT = 0.95
"""A fleet is worth trying when it is believed to carry at least this part of the demand: kinds
share their work a little better or worse than the sum of their rates says."""

_MOST_KINDS = 8  # of replicas, the best for their price
_MOST_MIXED = 3  # kinds in one fleet
_NEARLY = 1.0 - 1e-9
_MOST_COUNTED = 100  # replicas of one kind that neither cost nor accelerators limit

Fullest = tuple[float, Counts]
"""The believed capacity of a fleet in requests per second, and the fleet."""


def cheaper(choice: Choice, below_per_hour: float, rates: Mapping[str, float],
            room: Mapping[str, int], tried: Sequence[Counts], *, mixed: bool,
            least: int = 1) -> Counts | None:
    """A fleet for less than ``below_per_hour`` that may carry the demand, by the ``rates`` of one
    replica. None where there is no such fleet.

    Fleets of few kinds come first, then those that are believed to carry most. Every kind has
    ``least`` replicas or more. A fleet is skipped if a ``tried`` fleet of the same kinds had at
    least as many replicas of each. ``room`` has the limited accelerators that other demands leave,
    by type.
    """
    most_cost = (1.0 - LEAST_SAVING) * below_per_hour
    need_per_s = DOUBT * choice.demand.rate_per_s
    kinds = sorted((c for c in choice.candidates if rates[c.variant.name] > 0.0), key=lambda c: (
        c.variant.cost_per_hour / rates[c.variant.name], c.variant.name))
    for size in range(1, (_MOST_MIXED if mixed else 1) + 1):
        found = [(carried, counts) for chosen in combinations(kinds[:_MOST_KINDS], size)
                 for carried, counts in _fullest(chosen, most_cost, rates, room, least, need_per_s)
                 if carried >= need_per_s]
        for _, counts in sorted(found, reverse=True):
            if not any(within(counts, other) for other in tried):
                return counts
    return None


def _fullest(kinds: Sequence[Candidate], most_cost: float, rates: Mapping[str, float],
             room: Mapping[str, int], least: int, need_per_s: float) -> Iterator[Fullest]:
    """Fleets of all these kinds within the cost to which no replica of the last kind can be added.

    A fleet is left out if it spends so much on the first kinds that the others cannot reach
    ``need_per_s`` with the rest of the money. Otherwise large fleets of three kinds would be too
    many to list.
    """
    first, rest = kinds[0], kinds[1:]
    variant = first.variant
    kind, each = variant.group.accelerator.name, variant.group.num_accelerators
    most = _most(first, most_cost, room)
    for count in range(least, most + 1) if rest else range(most, most + (most >= least)):
        carried = count * rates[variant.name]
        left_cost = most_cost - count * variant.cost_per_hour
        if rest and carried + _most_carried(rest, left_cost, rates) < need_per_s * _NEARLY:
            continue
        mine: Counts = ((variant.name, count),)
        if not rest:
            yield carried, mine
            continue
        left = {**room, kind: room[kind] - count * each} if kind in room else room
        for more, others in _fullest(rest, left_cost, rates, left, least, need_per_s - carried):
            yield carried + more, tuple(sorted(mine + others))


def _most_carried(kinds: Sequence[Candidate], cost: float, rates: Mapping[str, float]) -> float:
    """The rate that a fleet of these kinds carries at most at that cost, if replicas were
    divisible."""
    return max((rates[c.variant.name] / c.variant.cost_per_hour * cost
                if c.variant.cost_per_hour > 0.0 else inf for c in kinds), default=0.0)


def _most(candidate: Candidate, most_cost: float, room: Mapping[str, int]) -> int:
    """The most replicas of a kind within a cost and the accelerators that are left."""
    variant = candidate.variant
    group = variant.group
    available = room.get(group.accelerator.name)
    by_room = _MOST_COUNTED if available is None else available // group.num_accelerators
    if variant.cost_per_hour <= 0.0:
        return by_room
    by_cost = int(most_cost / variant.cost_per_hour + 1e-9)
    return by_cost if available is None else min(by_cost, by_room)


def within(counts: Counts, other: Counts) -> bool:
    """Whether two fleets are of the same kinds and the first has no more replicas of any kind."""
    return len(counts) == len(other) and all(
        mine[0] == theirs[0] and mine[1] <= theirs[1]
        for mine, theirs in zip(counts, other, strict=True))
