"""The problem as arrays, in the order of names, and the way back from shares to a solution."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.problem import (
    TOLERANCE,
    Demand,
    Pool,
    Problem,
    accelerator_types,
    replicas_for,
    usable_options,
    validated,
)
from penstock.plan.assign.solution import SLACK, Level, Method, Solution, move_cost, switching_cost

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Instance:
    """Pools p, demands d and usable options o by index. ``usage`` has a row per scarce resource
    (types of accelerators that are limited, then budgets) and a column per pool."""

    problem: Problem
    resources: tuple[str, ...]
    usage: Floats              # (resources, pools), of one replica
    supply: Floats             # (resources,)
    cost: Floats               # (pools,)
    upper: Ints                # (pools,) most replicas that could be of use
    floor: Ints                # (pools,)
    current: Ints              # (pools,)
    users: Ints                # (pools,) number of options on it
    option_demand: Ints        # (options,), ascending
    option_pool: Ints
    option_load: Floats
    option_alone: Ints         # replicas if the whole demand were alone on the pool
    option_move: Floats        # cost of moving the whole demand here
    first_option: Ints         # (demands + 1,)

    def options_of(self, demand: int) -> range:
        return range(int(self.first_option[demand]), int(self.first_option[demand + 1]))

    @property
    def num_demands(self) -> int:
        return len(self.problem.demands)

    @property
    def num_pools(self) -> int:
        return len(self.problem.pools)


def build_instance(problem: Problem) -> Instance:
    """Check the problem and bring it into index form. Raises InputError as ``validated`` does."""
    problem = validated(problem)
    pools, demands = problem.pools, problem.demands
    place = {pool.name: i for i, pool in enumerate(pools)}
    by_name = {pool.name: pool for pool in pools}
    options = [(d, place[o.pool], o.load, replicas_for(o.load, by_name[o.pool]),
                move_cost(problem.switching, demand, o, by_name))
               for d, demand in enumerate(demands) for o in usable_options(demand)]
    columns = list(zip(*options, strict=True)) if options else [()] * 5
    demand_of, pool_of, alone = (np.array(columns[i], dtype=np.int64) for i in (0, 1, 3))
    load = np.array(columns[2], dtype=np.float64)
    names, usage, supply = _resources(problem, set(pool_of.tolist()))
    return Instance(
        problem, names, usage, supply,
        cost=np.array([pool.cost_per_hour for pool in pools], dtype=np.float64),
        upper=_upper(pools, usage, supply, _sums(pool_of, load, len(pools))),
        floor=np.array([pool.min_replicas for pool in pools], dtype=np.int64),
        current=np.array([pool.current_replicas for pool in pools], dtype=np.int64),
        users=np.bincount(pool_of, minlength=len(pools)).astype(np.int64),
        option_demand=demand_of, option_pool=pool_of, option_load=load, option_alone=alone,
        option_move=np.array(columns[4], dtype=np.float64),
        first_option=np.searchsorted(demand_of, np.arange(len(demands) + 1)).astype(np.int64))


def _sums(groups: Ints, values: Floats, num_groups: int) -> Floats:
    return np.asarray(np.bincount(groups, values, num_groups), dtype=np.float64)


def _resources(problem: Problem, used: set[int]) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names of the limited resources, the usage of each by one replica of each pool, and the amount
    that the pools ``used`` (indices) can use."""
    pools, limits = problem.pools, problem.limits
    kinds = [kind for kind in accelerator_types(pools) if kind in problem.supply.accelerators]
    rows: list[tuple[str, list[float], float]] = []
    for kind in kinds:
        each = [pool.accelerators.get(kind, 0) for pool in pools]
        usable = _usable(problem.supply.accelerators[kind], {each[p] for p in used})
        rows.append((kind, [*each], usable))
    if limits.cost_per_hour is not None:
        rows.append((COST_LIMIT, [pool.cost_per_hour for pool in pools], limits.cost_per_hour))
    if limits.power_w is not None:
        rows.append((POWER_LIMIT, [pool.power_w for pool in pools], limits.power_w))
    return (tuple(row[0] for row in rows),
            np.array([row[1] for row in rows], dtype=np.float64).reshape(len(rows), len(pools)),
            np.array([row[2] for row in rows], dtype=np.float64))


def _usable(count: int, by_replica: set[int]) -> int:
    """The part of ``count`` accelerators that replicas can use: 4 of 7 where each takes 4."""
    step = math.gcd(*by_replica)
    return count // step * step if step else count


# Names of the budgets among the resources. No accelerator type begins with this character.
COST_LIMIT = "\0cost_per_hour"
POWER_LIMIT = "\0power_w"


def _upper(pools: Sequence[Pool], usage: Floats, supply: Floats, load: Floats) -> Ints:
    most = np.ceil(load - TOLERANCE).clip(min=0)
    most = np.where(most > 0, np.maximum(most, [pool.min_replicas for pool in pools]), 0)
    caps = [np.inf if pool.max_replicas is None else pool.max_replicas for pool in pools]
    most = np.minimum(most, caps)
    for row, available in zip(usage, supply, strict=True):
        fits = np.full(len(pools), np.inf)
        np.divide(available * (1 + 1e-12) + 1e-9, row, out=fits, where=row > 0)
        most = np.minimum(most, np.floor(fits))
    return np.asarray(most.astype(np.int64))


def replicas_of(instance: Instance, load: Floats) -> Ints:
    """Least whole replicas (pools,) that carry ``load`` replicas' worth of work."""
    whole = np.ceil(load - TOLERANCE).clip(min=0).astype(np.int64)
    return np.asarray(np.where(load > TOLERANCE,
                               np.maximum(np.maximum(whole, 1), instance.floor), 0))


def pool_load(instance: Instance, shares: Floats) -> Floats:
    """Load (pools,) that shares (options,) put on each pool."""
    return _sums(instance.option_pool, shares * instance.option_load, instance.num_pools)


def make_solution(instance: Instance, shares: Floats, levels: tuple[Level, ...], method: Method,
                  time_s: float) -> Solution:
    """The plan that serves these shares (options,) with the fewest replicas that carry them."""
    problem = instance.problem
    shares = np.where(shares > TOLERANCE, np.minimum(shares, 1.0), 0.0)
    count = replicas_of(instance, pool_load(instance, shares))
    replicas = {pool.name: int(n) for pool, n in zip(problem.pools, count, strict=True) if n}
    named = {(problem.demands[d].name, problem.pools[p].name): float(share)
             for d, p, share in zip(instance.option_demand, instance.option_pool, shares,
                                    strict=True) if share}
    served = {demand.name: float(share) for demand, share in
              zip(problem.demands, served_shares(instance, shares), strict=True)}
    used: dict[str, int] = {}
    for pool in problem.pools:
        for kind, each in pool.accelerators.items():
            if replicas.get(pool.name):
                used[kind] = used.get(kind, 0) + each * replicas[pool.name]
    return Solution(
        replicas, named, served,
        unserved=tuple(name for name, share in served.items() if share < 1.0 - SLACK),
        accelerators=dict(sorted(used.items())), cost_per_hour=float(instance.cost @ count),
        power_w=float(sum(pool.power_w * n for pool, n in zip(problem.pools, count, strict=True))),
        switching_cost=switching_cost(problem, replicas, named), levels=levels, method=method,
        time_s=time_s)


def served_shares(instance: Instance, shares: Floats) -> Floats:
    """Served share (demands,) of every demand."""
    return _sums(instance.option_demand, shares, instance.num_demands)


def shares_of(instance: Instance, solution: Solution) -> Floats:
    """The shares (options,) of a solution of the same problem."""
    shares: Mapping[tuple[str, str], float] = solution.shares
    demands: Sequence[Demand] = instance.problem.demands
    return np.array([shares.get((demands[d].name, instance.problem.pools[p].name), 0.0)
                     for d, p in zip(instance.option_demand, instance.option_pool, strict=True)],
                    dtype=np.float64)
