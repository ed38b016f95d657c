"""Shadow prices: the worth of one more unit of each scarce resource."""

from dataclasses import dataclass, replace

import numpy as np

from penstock.plan.assign.exact import goal_terms, priority_rate, stage_milp
from penstock.plan.assign.highs import solve_program
from penstock.plan.assign.instance import COST_LIMIT, POWER_LIMIT, Floats, Instance, build_instance
from penstock.plan.assign.levels import Goal, Stage
from penstock.plan.assign.milp import vector
from penstock.plan.assign.problem import Limits, Problem, Supply
from penstock.plan.assign.solution import SLACK, Solution
from penstock.plan.assign.solve import solve


@dataclass(frozen=True, slots=True)
class ShadowPrice:
    """The worth of one more accelerator of a type, or of a larger budget.

    ``dual`` is the cost per hour that one more unit would save. ``dual_served`` is the rate per
    second that it would add to the first priority that falls short. Both are duals of the
    relaxation, so marginal and approximate. ``saves`` and ``serves`` (by priority) are differences
    of two whole plans, the second with ``step`` more; None where they were not asked for.
    """

    resource: str
    available: float
    used: float
    dual: float
    dual_served: float
    step: float
    saves: float | None = None
    serves: tuple[tuple[int, float], ...] | None = None


def shadow_prices(problem: Problem, solution: Solution, *, differences: bool = True,
                  time_limit_s: float = 60.0) -> tuple[ShadowPrice, ...]:
    """Shadow prices of every limited accelerator type and budget at ``solution``.

    ``differences`` solves the problem once more per resource, within ``time_limit_s`` each.
    """
    instance = build_instance(problem)
    stage = _stage(instance, solution)
    cost_duals = _duals(instance, stage, Goal("cost"))
    short = sorted({d.priority for d in problem.demands if d.name in solution.unserved})
    served_duals = np.zeros(len(instance.resources))
    if short:
        before = replace(stage, kept=tuple(k for k in stage.kept if k[0] < short[0]))
        served_duals = _duals(instance, before, Goal("served", short[0]))
    found = []
    for i, name in enumerate(instance.resources):
        price = ShadowPrice(
            {COST_LIMIT: "cost_per_hour", POWER_LIMIT: "power_w"}.get(name, name),
            _available(problem, name), _used(instance, solution, i), float(cost_duals[i]),
            float(served_duals[i]), _step(instance, i))
        found.append(_with_difference(problem, solution, name, price, time_limit_s)
                     if differences else price)
    return tuple(found)


def _stage(instance: Instance, solution: Solution) -> Stage:
    """The stage that fixes the solution's served rates."""
    demands = instance.problem.demands
    served = np.array([solution.served[d.name] for d in demands])
    rates = np.array([d.rate_per_s for d in demands])
    skipped = np.diff(instance.first_option) == 0
    kept = []
    for priority in sorted({d.priority for d in demands}):
        own = np.array([d.priority == priority for d in demands])
        if (served[own] < 1.0 - SLACK).any():
            kept.append((priority, float((served * rates)[own].sum())))
    short = {priority for priority, _ in kept}
    full = np.array([d.priority not in short for d in demands], dtype=bool)
    return Stage(full & ~skipped, skipped, tuple(kept))


def _duals(instance: Instance, stage: Stage, goal: Goal) -> Floats:
    """The improvement of the goal by one more of each resource, in the goal's units; 0 where
    unknown."""
    milp = stage_milp(instance, stage)
    terms, _, _ = goal_terms(milp, goal)
    arrays = milp.program.arrays()
    upper = arrays.upper.copy()
    for pool, replicas in enumerate(milp.replicas):
        if replicas and pool not in milp.chosen:
            # A bound that follows from the supply would hide the supply's price.
            most = instance.problem.pools[pool].max_replicas
            upper[replicas[0][0]] = np.inf if most is None else most
    answer = solve_program(replace(arrays, upper=upper), vector(milp, terms), relaxed=True)
    if answer.row_duals is None:
        return np.zeros(len(instance.resources))
    scale = priority_rate(instance, goal.priority) if goal.kind == "served" else 1.0
    return np.asarray(np.maximum(-answer.row_duals[milp.resource_rows], 0.0) * scale)


def _available(problem: Problem, resource: str) -> float:
    """The available amount of a resource. ``Instance.supply`` is less where a remainder makes no
    whole replica."""
    budgets = {COST_LIMIT: problem.limits.cost_per_hour, POWER_LIMIT: problem.limits.power_w}
    return float(budgets.get(resource) or problem.supply.accelerators.get(resource, 0))


def _used(instance: Instance, solution: Solution, resource: int) -> float:
    count = np.array([solution.replicas.get(p.name, 0) for p in instance.problem.pools])
    return float(instance.usage[resource] @ count)


def _step(instance: Instance, resource: int) -> float:
    """One accelerator, or for a budget the use of the smallest replica."""
    usage = instance.usage[resource]
    if instance.resources[resource] in (COST_LIMIT, POWER_LIMIT):
        return float(usage[usage > 0].min(initial=np.inf)) if (usage > 0).any() else 1.0
    return 1.0


def _with_difference(problem: Problem, solution: Solution, name: str, price: ShadowPrice,
                     time_limit_s: float) -> ShadowPrice:
    limits, accelerators = problem.limits, dict(problem.supply.accelerators)
    if name == COST_LIMIT:
        limits = Limits((limits.cost_per_hour or 0.0) + price.step, limits.power_w)
    elif name == POWER_LIMIT:
        limits = Limits(limits.cost_per_hour, (limits.power_w or 0.0) + price.step)
    else:
        accelerators[name] += round(price.step)
    after = solve(replace(problem, supply=Supply(accelerators), limits=limits), start=solution,
                  time_limit_s=time_limit_s)
    gains: dict[int, float] = {}
    for demand in sorted(problem.demands, key=lambda d: d.priority):
        gain = after.served[demand.name] - solution.served[demand.name]
        gains[demand.priority] = gains.get(demand.priority, 0.0) + demand.rate_per_s * gain
    return replace(price, saves=solution.objective - after.objective, serves=tuple(gains.items()))
