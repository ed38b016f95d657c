"""The best plan of tiny problems by trying everything; shares nothing with the solvers."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from scipy.optimize import linprog

from penstock.plan.assign.problem import Demand, Option, Problem

Vector = tuple[float, ...]


def best_vector(problem: Problem) -> Vector:
    """Minus the served rate of each priority, cost, and switching cost where nothing is partial."""
    return min(rounded(vector) for vector in _vectors(problem))


def rounded(vector: Vector) -> Vector:
    return tuple(round(value, 5) + 0.0 for value in vector)


def _options(demand: Demand) -> list[Option]:
    return [o for o in demand.options
            if not demand.keep_pool or (demand.current and demand.current.pool == o.pool)]


def _fleets(problem: Problem) -> Iterator[dict[str, int]]:
    ranges = []
    for pool in problem.pools:
        load = sum(o.load for d in problem.demands for o in d.options if o.pool == pool.name)
        most = max(int(np.ceil(load)), pool.min_replicas if load else 0)
        most = most if pool.max_replicas is None else min(most, pool.max_replicas)
        ranges.append([n for n in range(most + 1) if n == 0 or n >= pool.min_replicas])
    for counts in product(*ranges):
        fleet = dict(zip([pool.name for pool in problem.pools], counts, strict=True))
        if _fits(problem, fleet):
            yield fleet


def _fits(problem: Problem, fleet: dict[str, int]) -> bool:
    cards = {kind: sum(fleet[p.name] * p.accelerators.get(kind, 0) for p in problem.pools)
             for kind in problem.supply.accelerators}
    limits = problem.limits
    return (all(used <= problem.supply.accelerators[kind] for kind, used in cards.items())
            and (limits.cost_per_hour is None or _cost(problem, fleet) <= limits.cost_per_hour)
            and (limits.power_w is None
                 or sum(fleet[p.name] * p.power_w for p in problem.pools) <= limits.power_w))


def _cost(problem: Problem, fleet: dict[str, int]) -> float:
    return sum(fleet[p.name] * p.cost_per_hour for p in problem.pools)


def _vectors(problem: Problem) -> Iterator[Vector]:
    """One vector per fleet and way to assign the demands that may not be split."""
    whole = [d for d in problem.demands if not d.mixed or not d.partial]
    choices = [[None, *_options(d)] if not d.mixed else [None, "mixed"] for d in whole]
    for fleet in _fleets(problem):
        for chosen in product(*choices):
            vector = _vector(problem, fleet,
                             {d.name: c for d, c in zip(whole, chosen, strict=True)})
            if vector is not None:
                yield vector


def _vector(problem: Problem, fleet: dict[str, int], chosen: dict[str, object]) -> Vector | None:
    """Served rates by a chain of linear programs for the shares, given everything whole."""
    columns = [(d, o) for d in problem.demands for o in _options(d)
               if d.name not in chosen or chosen[d.name] == "mixed" or chosen[d.name] == o]
    pools = sorted({o.pool for _, o in columns})
    a_ub = [[o.load if o.pool == pool else 0.0 for _, o in columns] for pool in pools]
    b_ub = [float(fleet[pool]) for pool in pools]
    a_eq, b_eq = [], []
    for demand in problem.demands:
        row = [float(d is demand) for d, _ in columns]
        must = not demand.partial and chosen.get(demand.name) is not None
        if must and not any(row):
            return None
        (a_eq if must else a_ub).append(row)
        (b_eq if must else b_ub).append(1.0)
    found: list[float] = []
    for priority in sorted({d.priority for d in problem.demands}):
        goal = np.array([-d.rate_per_s * (d.priority == priority) for d, _ in columns])
        if not columns:
            found.append(0.0)
            continue
        answer = linprog(goal, a_ub, b_ub, a_eq or None, b_eq or None)
        if answer.status != 0:
            return None
        found.append(float(answer.fun))
        a_ub.append(goal.tolist())
        b_ub.append(float(answer.fun) + 1e-9)
    return (*found, _cost(problem, fleet))
