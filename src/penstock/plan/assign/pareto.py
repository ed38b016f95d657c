"""Cost of a plan against another score."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from penstock.core.errors import InputError
from penstock.plan.assign.problem import Problem, validated
from penstock.plan.assign.solution import SLACK, Solution
from penstock.plan.assign.solve import solve


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """``score`` is the worst among the options that the plan uses."""

    score: float
    cost: float
    solution: Solution


def pareto(problem: Problem, scores: Mapping[tuple[str, str], float], *,
           time_limit_s: float = 60.0) -> tuple[ParetoPoint, ...]:
    """Cost against the worst score in use, cheapest first; ``scores`` by (demand, pool), less is
    better.

    Every point serves as much as the plan without regard to scores. Each next plan may only use
    options that score better than all that the last one needed (the epsilon-constraint method of
    Haimes et al., 1971); plans that another one beats in both are left out. ``time_limit_s`` is
    per plan. Raises InputError for an option without a score.
    """
    problem = validated(problem)
    for demand in problem.demands:
        for option in demand.options:
            if (demand.name, option.pool) not in scores:
                raise InputError(f"score of {demand.name!r} on {option.pool!r} is missing; "
                                 "expected one for each option")
    points: list[ParetoPoint] = []
    first: Solution | None = None
    while True:
        solution = solve(problem, time_limit_s=time_limit_s)
        first = first or solution
        if not solution.shares or _serves_less(solution, first):
            break
        worst = max(scores[key] for key in solution.shares)
        points.append(ParetoPoint(worst, solution.objective, solution))
        problem = replace(problem, demands=tuple(
            replace(d, options=tuple(o for o in d.options if scores[d.name, o.pool] < worst))
            for d in problem.demands))
    return tuple(point for i, point in enumerate(points)
                 if all(later.cost > point.cost * (1.0 + SLACK) for later in points[i + 1:]))


def _serves_less(one: Solution, other: Solution) -> bool:
    levels = zip(one.levels, other.levels, strict=True)
    return any(a.objective < b.objective - SLACK * max(1.0, b.objective) for a, b in levels
               if a.name.startswith("served"))
