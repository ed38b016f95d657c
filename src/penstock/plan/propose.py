"""A fleet's demands and candidates as a planning problem, and its solution as replica groups."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.assign.problem import (
    Demand as Need,
)
from penstock.plan.assign.problem import (
    Limits,
    Option,
    Pool,
    Problem,
    Supply,
    Switching,
)
from penstock.plan.assign.solution import Solution
from penstock.plan.demands import Demand
from penstock.plan.estimate import Candidate, without_dominated
from penstock.plan.variants import LeftOut, variant_name
from penstock.policy.route.roles import BOTH

Rates = Mapping[tuple[str, str], float]
"""Requests per second that one replica is believed to sustain, by (demand, variant)."""

Counts = tuple[tuple[str, int], ...]
"""The replicas that serve a demand: their number by variant, in order of name."""

Confirmed = Mapping[str, Mapping[Counts, float]]
"""Fleets by demand, each with the share of the demand that it carried in simulation although its
rates do not add up to that share."""

_SEPARATOR = " on "
_LEAST_LOAD = 1e-3  # a load below the solver's tolerance would get no replica at all


@dataclass(frozen=True, slots=True)
class Choice:
    """A demand with the candidates that a plan may give it.

    ``dominated`` candidates lower the cost of no plan, but their latency may be lower. ``sides``
    serve the demand only together: replicas with roles, and whole ones for the prompts that these
    do not take.
    """

    demand: Demand
    candidates: tuple[Candidate, ...]
    dominated: tuple[Candidate, ...] = ()
    sides: tuple[Candidate, ...] = ()

    @property
    def every(self) -> tuple[Candidate, ...]:
        """All candidates, the standalone ones first."""
        return (*self.candidates, *self.dominated, *self.sides)

    def candidate(self, variant: str) -> Candidate:
        """The candidate of that name, whatever it serves."""
        return next(c for c in self.every if c.variant.name == variant)

    def is_split(self, counts: Counts) -> bool:
        """Whether some of these replicas have a role."""
        return any(self.candidate(variant).variant.group.role != BOTH for variant, _ in counts)


def problem_of(fleet: Fleet, choices: Sequence[Choice], rates: Rates,
               apart: Container[str] = (),
               confirmed: Confirmed = MappingProxyType({})) -> Problem:
    """The problem of serving every demand; each (demand, variant) is a pool of its own.

    Demands in ``apart`` get replicas of one variant only. Each fleet of ``confirmed`` is a pool
    that may be started once.
    """
    pools: list[Pool] = []
    needs: list[Need] = []
    shift = priority_shift(choices)
    for choice in choices:
        demand, options = choice.demand, []
        running = current_counts(fleet, demand)
        for candidate in choice.candidates:
            variant = candidate.variant
            name = pool_name(demand.name, variant.name)
            group = variant.group
            pools.append(Pool(name, variant.cost_per_hour,
                              {group.accelerator.name: group.num_accelerators}, variant.power_w,
                              min_replicas=fleet.plan.min_replicas,
                              current_replicas=running.get(variant.name, 0)))
            load = demand.rate_per_s / rates[demand.name, variant.name]
            options.append(Option(name, max(load, _LEAST_LOAD)))
        for known, share in confirmed.get(demand.name, {}).items():
            pools.append(whole_fleet(choice, known))
            options.append(Option(pools[-1].name, 1.0 / share))
        needs.append(Need(demand.name, tuple(options), demand.priority + shift,
                          demand.rate_per_s,
                          mixed=fleet.plan.mixed and demand.name not in apart))
    for name, idle in idle_counts(fleet, choices).items():  # replicas that every plan stops
        pools += [Pool(pool_name(name, variant), 0.0, current_replicas=count, max_replicas=0)
                  for variant, count in idle.items()]
    plan = fleet.plan
    supply = Supply({pool.accelerator.name: pool.count for pool in fleet.accelerators
                     if pool.count is not None})
    return Problem(tuple(pools), tuple(needs), supply,
                   Limits(plan.max_cost_per_hour, plan.max_power_w),
                   Switching(plan.start_cost, plan.stop_cost))


def narrowed(fleet: Fleet, choices: Sequence[Choice], rates: Rates) -> list[Choice]:
    """The choices with only the candidates that a plan may need; the others are ``dominated``."""
    found = []
    for choice in choices:
        kept = considered(fleet, choice, rates)[0]
        rest = tuple(c for c in choice.candidates if c not in kept)
        found.append(replace(choice, candidates=tuple(kept), dominated=rest))
    return found


def considered(fleet: Fleet, choice: Choice,
               rates: Rates) -> tuple[list[Candidate], list[LeftOut]]:
    """The candidates that a plan may need, and those that fail or that others dominate.

    The believed rates decide. So a dropped variant returns when the variant that dominated it turns
    out to carry less. Variants that run now are always kept, so that a plan can leave them as they
    are.
    """
    demand = choice.demand
    mine = {c.variant.name: rates[demand.name, c.variant.name] for c in choice.candidates}
    able = [c for c in choice.candidates if mine[c.variant.name] > 0.0]
    kept, dropped = without_dominated(able, mine)
    running = current_counts(fleet, demand)
    kept += [c for c in able if c.variant.name in running and c not in kept]
    refuted = [LeftOut(name, "misses in simulation, however many there are")
               for name, rate_per_s in mine.items() if rate_per_s <= 0.0]
    return (sorted(kept, key=lambda c: c.variant.name),
            [*refuted, *(left for left in dropped if left.name not in running)])


def priority_shift(choices: Sequence[Choice]) -> int:
    """The number to add to a fleet file's priorities, which begin at 0, so that they begin at 1."""
    return max(0, 1 - min(choice.demand.priority for choice in choices))


def pool_name(demand: str, variant: str) -> str:
    """The name of the pool that carries a demand with a variant."""
    return f"{demand}{_SEPARATOR}{variant}"


def format_fleet(counts: Counts) -> str:
    """Replicas by variant, such as ``2 x a100-80gb-bf16 + 1 x l4-fp8``."""
    return " + ".join(f"{count} x {variant}" for variant, count in counts)


def counts_of(solution: Solution, choice: Choice, confirmed: Iterable[Counts] = ()) -> Counts:
    """The replicas that a solution gives a demand, those in ``confirmed`` fleets included."""
    name, started = choice.demand.name, solution.replicas
    found = {c.variant.name: started.get(pool_name(name, c.variant.name), 0)
             for c in choice.every}
    for counts in confirmed:
        times = started.get(pool_name(name, format_fleet(counts)), 0)
        for variant, count in counts:
            found[variant] += times * count
    return tuple(sorted((variant, count) for variant, count in found.items() if count))


def whole_fleet(choice: Choice, counts: Counts) -> Pool:
    """A fleet as a pool that may be started once."""
    used: dict[str, int] = {}
    cost_per_hour = power_w = 0.0
    for name, count in counts:
        variant = choice.candidate(name).variant
        kind = variant.group.accelerator.name
        used[kind] = used.get(kind, 0) + count * variant.group.num_accelerators
        cost_per_hour += count * variant.cost_per_hour
        power_w += count * variant.power_w
    return Pool(pool_name(choice.demand.name, format_fleet(counts)), cost_per_hour, used, power_w,
                max_replicas=1)


def groups_of(choice: Choice, counts: Counts) -> tuple[ReplicaGroup, ...]:
    """The replicas as groups of a fleet file."""
    return tuple(replace(choice.candidate(variant).variant.group, count=count,
                         service_classes=choice.demand.class_names)
                 for variant, count in counts)


def current_groups(fleet: Fleet, demand: Demand) -> list[ReplicaGroup]:
    """Replicas that serve the demand now: all of its model, or those of exactly its classes."""
    return [group for group in fleet.replicas if group.model.name == demand.model.spec.name
            and (demand.class_names is None or group.service_classes == demand.class_names)]


def current_counts(fleet: Fleet, demand: Demand) -> dict[str, int]:
    """Replicas that serve the demand now, by the name of their variant."""
    return _counted(current_groups(fleet, demand))


def idle_counts(fleet: Fleet, choices: Sequence[Choice]) -> dict[str, dict[str, int]]:
    """Replicas that run now without a demand in the plan, by model and classes, then by variant."""
    used = [group for choice in choices for group in current_groups(fleet, choice.demand)]
    found: dict[str, list[ReplicaGroup]] = {}
    for group in fleet.replicas:
        if group not in used:
            name = "/".join((group.model.name, "+".join(group.service_classes or ("all",))))
            found.setdefault(name, []).append(group)
    return {name: _counted(groups) for name, groups in found.items()}


def _counted(groups: Iterable[ReplicaGroup]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for group in groups:
        name = variant_name(group)
        counts[name] = counts.get(name, 0) + group.count
    return counts
