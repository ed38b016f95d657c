"""The rate at which lasting traffic saturates a demand's replicas."""

from collections.abc import Callable, Iterator
from math import inf

from penstock.fleet.disaggregation import least_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.demands import in_part
from penstock.plan.estimate import Candidate, bound_per_s
from penstock.plan.propose import Choice, Counts
from penstock.policy.route.roles import BOTH, DECODE, PREFILL

_NEARLY = 1.0 - 1e-9

Slowdown = Callable[[ReplicaGroup], float]
"""Function that returns step times of a group over those that the plan believes."""

Part = tuple[tuple[str, int, float | None], ...]
"""Replicas that share one kind of work, each variant with its number and the requests per second of
the whole demand of which one replica computes that work, None where no formula gives them."""


def saturation_per_s(fleet: Fleet, choice: Choice, counts: Counts,
                     slowdown: Slowdown = lambda _group: 1.0) -> float | None:
    """Return the requests per second that no schedule exceeds on these replicas, None where no
    formula gives the rate. Where replicas have roles, the part with the least decides."""
    found = [_total(choice, part, slowdown) for part in parts_of(fleet, choice, counts)]
    known = [one for one in found if one is not None]
    return min(known) if known and len(known) == len(found) else None


def sustains(fleet: Fleet, choice: Choice, counts: Counts,
             slowdown: Slowdown = lambda _group: 1.0) -> bool:
    """Whether lasting traffic saturates no part of the replicas. A run that ends might hold while a
    queue only grows."""
    if not choice.demand.lasting:
        return True
    most_per_s = saturation_per_s(fleet, choice, counts, slowdown)
    return most_per_s is None or most_per_s >= choice.demand.lasting_per_s * _NEARLY


def _total(choice: Choice, part: Part, slowdown: Slowdown) -> float | None:
    rates = [number * each / slowdown(choice.candidate(variant).variant.group)
             for variant, number, each in part if each]
    return sum(rates) if len(rates) == len(part) else None


def parts_of(fleet: Fleet, choice: Choice, counts: Counts) -> list[Part]:
    """Return the replicas by the work that they share: all of them, or those of each role."""
    if not choice.is_split(counts):
        found = tuple((variant, number, choice.candidate(variant).bound_per_s)
                      for variant, number in counts)
        return [found] if found else []
    return [part for role in (BOTH, PREFILL, DECODE)
            if (part := tuple(_of_role(fleet, choice, counts, role)))]


def _of_role(fleet: Fleet, choice: Choice, counts: Counts, role: str
             ) -> Iterator[tuple[str, int, float | None]]:
    """Yield the replicas of a role. Whole ones take only prompts too short for the others."""
    known = [(choice.candidate(variant), number) for variant, number in counts]
    shortest = max(least_tokens(fleet, one.variant.group) for one, _ in known)
    for one, number in known:
        if one.variant.group.role == role:
            each = one.rate_per_s if role != BOTH else _short_per_s(fleet, choice, one, shortest)
            yield one.variant.name, number, each


def _short_per_s(fleet: Fleet, choice: Choice, candidate: Candidate, below_tokens: int
                 ) -> float | None:
    demand = choice.demand
    short = in_part(demand, "in part", lambda one: one.prompt_tokens < below_tokens)
    if not short.workloads:
        return None
    bound = bound_per_s(fleet, short, candidate.variant)
    return None if bound is None else bound * len(demand.sample) / len(short.sample)


def changed_part(fleet: Fleet, choice: Choice, counts: Counts, change: int) -> Counts:
    """Return replicas with roles with one more (1) of the part that saturates first, or one fewer
    (-1) of the part that saturates last and has more than one; nothing where there is none."""
    parts = [part for part in parts_of(fleet, choice, counts)
             if change > 0 or sum(number for _, number, _ in part) > 1]
    if not parts:
        return ()
    best = min(parts, key=lambda part: change * sum(
        number * (each or inf) for _, number, each in part))
    main = max(best, key=lambda one: one[1] * (one[2] or 0.0))[0]
    changed = ((variant, number + change if variant == main else number)
               for variant, number in counts)
    return tuple((variant, number) for variant, number in changed if number)
