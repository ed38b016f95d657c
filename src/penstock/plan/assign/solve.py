"""The entry to the solvers: it picks one by the size and shape of the problem."""

import time
from dataclasses import replace

from penstock.plan.assign.blocks import find_blocks
from penstock.plan.assign.decompose import solve_decomposed
from penstock.plan.assign.exact import solve_exact
from penstock.plan.assign.instance import build_instance, shares_of
from penstock.plan.assign.order import SAME, is_better, objective_vector
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.solution import COST, SWITCHING, Level, Solution

# Options up to which a plan is first sought as one program, and up to which that is tried at all.
_SMALL, _MEDIUM = 1000, 5000


def solve(problem: Problem, *, gap: float = 1e-4, time_limit_s: float = 60.0,
          start: Solution | None = None) -> Solution:
    """The best plan that is found in time; ``Solution.method`` names the solver.

    Small problems are proven to gap 0 if time allows, larger problems to ``gap``. Where one solver
    leaves a gap, the other solver gets the remaining time, and the better plan and the tighter
    bounds are kept. The answer is the same on every run unless the time limit is reached. Raises
    InputError for a malformed problem.
    """
    began_s = time.perf_counter()
    instance = build_instance(problem)
    num_options = len(instance.option_demand)
    blocks = find_blocks(instance)
    small = num_options <= _SMALL
    gap = 0.0 if small else gap

    def left_s() -> float:
        return max(0.0, time_limit_s - (time.perf_counter() - began_s))

    if small or len(blocks) < 2:
        found = solve_exact(problem, gap=gap, start=start,
                            time_limit_s=left_s() / 2 if len(blocks) > 1 else left_s())
        if found.worst_gap > gap and len(blocks) > 1:
            found = _joined(problem, found, solve_decomposed(
                problem, gap=gap, time_limit_s=left_s(), start=found))
    else:
        found = solve_decomposed(problem, gap=gap, time_limit_s=left_s(), start=start)
        if found.worst_gap > gap and num_options <= _MEDIUM:
            found = _joined(problem, found, solve_exact(
                problem, gap=gap, time_limit_s=left_s(), start=found))
    return replace(found, time_s=time.perf_counter() - began_s)


def _joined(problem: Problem, one: Solution, other: Solution) -> Solution:
    """The better of two plans with the tighter bound of both at each level."""
    instance = build_instance(problem)
    vectors = [objective_vector(instance, shares_of(instance, s)) for s in (one, other)]
    best = other if is_better(vectors[1], vectors[0]) else one
    rest = one if best is other else other
    levels, comparable = [], True
    for mine, theirs in zip(best.levels, rest.levels, strict=True):
        # Bounds are for plans that do as well at all levels before, so they hold for both plans
        # as long as these agree.
        levels.append(_tightened(mine, theirs) if comparable else mine)
        comparable &= abs(mine.objective - theirs.objective) <= SAME * max(1.0, mine.objective)
    return replace(best, levels=tuple(levels))


def _tightened(mine: Level, theirs: Level) -> Level:
    if mine.name in (COST, SWITCHING):
        bound = min(mine.objective, max(mine.bound, theirs.bound))
    else:
        bound = max(mine.objective, min(mine.bound, theirs.bound))
    if bound == mine.bound:
        return mine
    # Gaps of one level are relative to one size.
    distance = abs(mine.objective - mine.bound)
    return Level(mine.name, mine.objective, bound,
                 mine.gap * abs(mine.objective - bound) / distance)
