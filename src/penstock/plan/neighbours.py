"""Cheaper fleets for one demand that are worth a simulation."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from penstock.plan.estimate import Candidate
from penstock.plan.propose import Choice, Counts

LEAST_SAVING = 0.005
"""A fleet is worth trying when it costs less by at least this part."""

_MOST_KINDS = 8  # of replicas, the best for their price
_MOST_MIXED = 3  # kinds in one fleet
_MOST_COUNTED = 100  # replicas of one kind where neither cost nor cards limit them


def cheaper(choice: Choice, below_per_hour: float, rates: Mapping[str, float],
            room: Mapping[str, int], tried: Sequence[Counts], *, mixed: bool) -> Counts | None:
    """A fleet for less than ``below_per_hour`` that, going by ``rates`` of one replica, may carry
    the demand: of few kinds first, then what is believed to carry most. None if there is none.

    Of one set of kinds only a fleet that is believed to carry more than all those ``tried`` is
    worth it. ``room`` has the accelerators that other demands leave, by type, where they are
    limited.
    """
    most_cost = (1.0 - LEAST_SAVING) * below_per_hour
    kinds = sorted((c for c in choice.candidates if rates[c.variant.name] > 0.0), key=lambda c: (
        c.variant.cost_per_hour / rates[c.variant.name], c.variant.name))
    for size in range(1, (_MOST_MIXED if mixed else 1) + 1):
        found = [fleet for chosen in combinations(kinds[:_MOST_KINDS], size)
                 if (fleet := _fullest(chosen, most_cost, rates, room)) is not None
                 and fleet[0] >= choice.demand.rate_per_s
                 and fleet[0] > _most_tried(chosen, rates, tried)]
        if found:
            return tuple(sorted(max(found)[1]))
    return None


def _fullest(kinds: Sequence[Candidate], most_cost: float, rates: Mapping[str, float],
             room: Mapping[str, int]) -> tuple[float, Counts] | None:
    """The fleet of all these kinds that carries most for that cost, after what it carries."""
    first, rest = kinds[0], kinds[1:]
    variant = first.variant
    kind, cards = variant.group.accelerator.name, variant.group.num_accelerators
    most = _most(first, most_cost, room)
    best: tuple[float, Counts] | None = None
    for count in range(1, most + 1) if rest else range(most, most + (most > 0)):
        carried = count * rates[variant.name]
        counts: Counts = ((variant.name, count),)
        if rest:
            left = {**room, kind: room[kind] - count * cards} if kind in room else room
            others = _fullest(rest, most_cost - count * variant.cost_per_hour, rates, left)
            if others is None:
                break
            carried, counts = carried + others[0], (*counts, *others[1])
        best = max(best or (carried, counts), (carried, counts))
    return best


def _most(candidate: Candidate, most_cost: float, room: Mapping[str, int]) -> int:
    """The most replicas of a kind for a cost and with what accelerators there are."""
    variant = candidate.variant
    group = variant.group
    cards = room.get(group.accelerator.name)
    by_cards = None if cards is None else cards // group.num_accelerators
    if variant.cost_per_hour <= 0.0:
        return _MOST_COUNTED if by_cards is None else by_cards
    by_cost = int(most_cost / variant.cost_per_hour + 1e-9)
    return by_cost if by_cards is None else min(by_cost, by_cards)


def _most_tried(kinds: Sequence[Candidate], rates: Mapping[str, float],
                tried: Sequence[Counts]) -> float:
    """What the best fleet of exactly these kinds that was tried is believed to carry."""
    names = {c.variant.name for c in kinds}
    return max((sum(count * rates[name] for name, count in counts) for counts in tried
                if {name for name, _ in counts} == names), default=0.0) * (1.0 + 1e-9)
