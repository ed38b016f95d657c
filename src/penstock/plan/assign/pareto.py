"""The plan under other prices, cards, budgets or traffic, and cost against another score."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.core.errors import InputError, nearest
from penstock.plan.assign.problem import Limits, Option, Problem, Supply, validated
from penstock.plan.assign.solution import SLACK, Solution
from penstock.plan.assign.solve import solve


@dataclass(frozen=True, slots=True)
class Change:
    """Change of a problem: cost factors by pool or by card type (of all pools that use the type),
    cards by type (None: not limited), rate factors by demand, or other limits."""

    cost_factor: Mapping[str, float] = field(default_factory=dict)
    cards: Mapping[str, int | None] = field(default_factory=dict)
    rate_factor: Mapping[str, float] = field(default_factory=dict)
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two plans and what lies between them; ``replicas`` has (before, after) of pools that
    differ."""

    before: Solution
    after: Solution
    cost_per_hour: float
    replicas: Mapping[str, tuple[int, int]]
    newly_served: tuple[str, ...]
    newly_unserved: tuple[str, ...]


def changed(problem: Problem, change: Change) -> Problem:
    """The problem after the change. A demand's loads grow with its rate.

    Raises InputError for unknown names and for factors that are negative (rates: not above 0).
    """
    pools = {pool.name for pool in problem.pools}
    types = {kind for pool in problem.pools for kind in pool.cards} | set(problem.supply.cards)
    demands = {demand.name for demand in problem.demands}
    _check_known("cost_factor", change.cost_factor, pools | types)
    _check_known("cards", change.cards, types)
    _check_known("rate_factor", change.rate_factor, demands)

    def cost_factor(name: str, cards: Mapping[str, int]) -> float:
        factor = change.cost_factor.get(name, 1.0)
        for kind in cards:
            factor *= change.cost_factor.get(kind, 1.0) if kind != name else 1.0
        return factor

    supply = {**problem.supply.cards, **change.cards}
    return validated(Problem(
        tuple(replace(p, cost_per_hour=p.cost_per_hour * cost_factor(p.name, p.cards))
              for p in problem.pools),
        tuple(replace(d, rate_per_s=d.rate_per_s * factor,
                      options=tuple(Option(o.pool, o.load * factor) for o in d.options))
              for d in problem.demands for factor in [change.rate_factor.get(d.name, 1.0)]),
        Supply({kind: count for kind, count in supply.items() if count is not None}),
        change.limits or problem.limits, problem.switching))


def _check_known(where: str, given: Mapping[str, object], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise InputError(f"what-if {where}: unknown name {name!r}{nearest(name, known)}")


def what_if(problem: Problem, change: Change, *, before: Solution | None = None,
            gap: float = 1e-4, time_limit_s: float = 60.0) -> Comparison:
    """Plans before (unless given) and after a change."""
    if before is None:
        before = solve(problem, gap=gap, time_limit_s=time_limit_s)
    after = solve(changed(problem, change), gap=gap, time_limit_s=time_limit_s)
    counts = {name: (before.replicas.get(name, 0), after.replicas.get(name, 0))
              for name in sorted({*before.replicas, *after.replicas})}
    return Comparison(
        before, after, after.cost_per_hour - before.cost_per_hour,
        {name: pair for name, pair in counts.items() if pair[0] != pair[1]},
        tuple(sorted(set(before.unserved) - set(after.unserved))),
        tuple(sorted(set(after.unserved) - set(before.unserved))))


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """``score`` is the worst among the options that the plan uses."""

    score: float
    cost: float
    solution: Solution


def pareto(problem: Problem, scores: Mapping[tuple[str, str], float], *,
           higher_is_better: bool = False, gap: float = 1e-4,
           time_limit_s: float = 60.0) -> tuple[ParetoPoint, ...]:
    """Cost against the worst score in use, cheapest first; ``scores`` by (demand, pool).

    Every point serves as much as the plan without regard to scores. Each next plan may only use
    options that score better than all that the last one needed (the epsilon-constraint method of
    Haimes et al., 1971); plans that another one beats in both are left out. ``time_limit_s`` is
    per plan. Raises InputError for an option without a score.
    """
    problem = validated(problem)
    sign = -1.0 if higher_is_better else 1.0
    for demand in problem.demands:
        for option in demand.options:
            if (demand.name, option.pool) not in scores:
                raise InputError(f"score of {demand.name!r} on {option.pool!r} is missing; "
                                 "expected one for each option")
    points: list[ParetoPoint] = []
    first: Solution | None = None
    while True:
        solution = solve(problem, gap=gap, time_limit_s=time_limit_s)
        first = first or solution
        if not solution.shares or _serves_less(solution, first):
            break
        worst = max(sign * scores[key] for key in solution.shares)
        points.append(ParetoPoint(sign * worst, solution.objective, solution))
        problem = replace(problem, demands=tuple(
            replace(d, options=tuple(o for o in d.options
                                     if sign * scores[d.name, o.pool] < worst))
            for d in problem.demands))
    return tuple(point for i, point in enumerate(points)
                 if all(later.cost > point.cost * (1.0 + SLACK) for later in points[i + 1:]))


def _serves_less(one: Solution, other: Solution) -> bool:
    levels = zip(one.levels, other.levels, strict=True)
    return any(a.objective < b.objective - SLACK * max(1.0, b.objective) for a, b in levels
               if a.name.startswith("served"))
