"""The order of plans: served rates by priority, then cost, then switching cost."""

import numpy as np

from penstock.plan.assign.instance import Floats, Instance, pool_load, replicas_of, served_shares
from penstock.plan.assign.problem import TOLERANCE
from penstock.plan.assign.solution import switching_cost

# Relative slack with which a level's optimum is kept at later levels.
KEEP = 1e-9
# Relative difference below which two plans count as equal.
SAME = 1e-6


def objective_vector(instance: Instance, shares: Floats) -> tuple[float, ...]:
    """The minimised quantities in order: minus served rates by priority, cost, switching cost."""
    problem = instance.problem
    served = served_shares(instance, shares)
    by_priority = {d.priority: 0.0 for d in problem.demands}
    for demand, share in zip(problem.demands, served, strict=True):
        by_priority[demand.priority] -= demand.rate_per_s * float(share)
    cost = float(instance.cost @ replicas_of(instance, pool_load(instance, shares)))
    moves = switching(instance, shares)
    return (*(by_priority[p] for p in sorted(by_priority)),
            cost + (moves if problem.switching.in_cost else 0.0), moves)


def switching(instance: Instance, shares: Floats) -> float:
    """Switching cost of the plan with these shares (options,)."""
    problem = instance.problem
    count = replicas_of(instance, pool_load(instance, shares))
    named = {(problem.demands[d].name, problem.pools[p].name): float(share)
             for d, p, share in zip(instance.option_demand, instance.option_pool, shares,
                                    strict=True) if share > TOLERANCE}
    replicas = {pool.name: int(n) for pool, n in zip(problem.pools, count, strict=True)}
    return switching_cost(problem, replicas, named)


def is_better(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether one objective vector comes before the other, beyond rounding."""
    for a, b in zip(one, other, strict=True):
        if abs(a - b) > SAME * max(1.0, abs(a), abs(b)):
            return a < b
    return False


def fits(instance: Instance, shares: Floats) -> bool:
    """Whether the replicas for these shares (options,) respect supply, budgets and pool sizes."""
    count = replicas_of(instance, pool_load(instance, shares))
    used = instance.usage @ count
    return bool(np.all(count <= instance.upper)
                and np.all(used <= instance.supply * (1 + 1e-12) + 1e-9)
                and np.all(served_shares(instance, shares) <= 1.0 + TOLERANCE))


def squared(instance: Instance, shares: Floats) -> Floats:
    """The plan without the rounding that a solver put into its shares (options,).

    A demand that is served in part gets exactly the capacity that the running replicas have left,
    by priority and name.
    """
    shares = np.where(shares > TOLERANCE, shares, 0.0)
    served, load = served_shares(instance, shares), pool_load(instance, shares)
    count = replicas_of(instance, load)
    demands = instance.problem.demands
    held = np.flatnonzero((shares > 0.0) & (served[instance.option_demand] < 1.0))
    for option in sorted(held.tolist(), key=lambda o: (
            demands[instance.option_demand[o]].priority, o)):
        demand, pool = int(instance.option_demand[option]), int(instance.option_pool[option])
        each = float(instance.option_load[option])
        more = min((float(count[pool]) - float(load[pool])) / each, 1.0 - float(served[demand]))
        if demands[demand].partial and (more > 0.0 or served[demand] < 1.0 - TOLERANCE):
            shares[option] += more
            served[demand] += more
            load[pool] += more * each
    return shares


def better_of(instance: Instance, one: Floats, other: Floats) -> Floats:
    """``other`` if it fits and is better."""
    return other if fits(instance, other) and is_better(
        objective_vector(instance, other), objective_vector(instance, one)) else one
