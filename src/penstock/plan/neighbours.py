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
share their work a little better or worse than rates tell."""

_MOST_KINDS = 8  # of replicas, the best for their price
_MOST_MIXED = 3  # kinds in one fleet
_NEARLY = 1.0 - 1e-9
_MOST_COUNTED = 100  # replicas of one kind where neither cost nor cards limit them

Fullest = tuple[float, Counts]
"""Believed capacity of a fleet, and the fleet."""


def cheaper(choice: Choice, below_per_hour: float, rates: Mapping[str, float],
            room: Mapping[str, int], tried: Sequence[Counts], *, mixed: bool,
            least: int = 1) -> Counts | None:
    """A fleet for less than ``below_per_hour`` that, going by ``rates`` of one replica, may carry
    the demand: of few kinds first, then what is believed to carry most. None if there is none.

    Every kind in it has ``least`` replicas or more. Nothing is offered that has no more of any kind
    than one of the same kinds that was ``tried``.
    ``room`` has the accelerators that other demands leave, by type, where they are limited.
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
            if not any(_within(counts, other) for other in tried):
                return counts
    return None


def _fullest(kinds: Sequence[Candidate], most_cost: float, rates: Mapping[str, float],
             room: Mapping[str, int], least: int, need_per_s: float) -> Iterator[Fullest]:
    """Fleets of all these kinds for that cost that have no room for one more of the last.

    Left out are those that spend so much on the first kinds that the others, for the rest of the
    money, cannot make up what is missing of ``need_per_s``: without that, large fleets of three
    kinds are too many to list.
    """
    first, rest = kinds[0], kinds[1:]
    variant = first.variant
    kind, cards = variant.group.accelerator.name, variant.group.num_accelerators
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
        left = {**room, kind: room[kind] - count * cards} if kind in room else room
        for more, others in _fullest(rest, left_cost, rates, left, least, need_per_s - carried):
            yield carried + more, tuple(sorted(mine + others))


def _most_carried(kinds: Sequence[Candidate], cost: float, rates: Mapping[str, float]) -> float:
    """Return the believed bound of a fleet of these kinds at that cost, were replicas divisible."""
    return max((rates[c.variant.name] / c.variant.cost_per_hour * cost
                if c.variant.cost_per_hour > 0.0 else inf for c in kinds), default=0.0)


def _most(candidate: Candidate, most_cost: float, room: Mapping[str, int]) -> int:
    """The most replicas of a kind for a cost and with what accelerators there are."""
    variant = candidate.variant
    group = variant.group
    cards = room.get(group.accelerator.name)
    by_cards = _MOST_COUNTED if cards is None else cards // group.num_accelerators
    if variant.cost_per_hour <= 0.0:
        return by_cards
    by_cost = int(most_cost / variant.cost_per_hour + 1e-9)
    return by_cost if cards is None else min(by_cost, by_cards)


def _within(counts: Counts, other: Counts) -> bool:
    """Whether two fleets are of the same kinds and the first has no more of any."""
    return len(counts) == len(other) and all(
        mine[0] == theirs[0] and mine[1] <= theirs[1]
        for mine, theirs in zip(counts, other, strict=True))
