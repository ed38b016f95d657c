"""A plan, how good it is proven to be, and an independent check of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from penstock.plan.assign.problem import (
    TOLERANCE,
    Demand,
    Option,
    Pool,
    Problem,
    Switching,
    replicas_for,
    usable_options,
)

# How far a sum of rounded shares may be off.
SLACK = 10 * TOLERANCE
# Relative distance of objective and bound that is the rounding of sums.
ROUNDING = 1e-9

Method = Literal["exact", "decompose", "heuristic"]


@dataclass(frozen=True, slots=True)
class Level:
    """One objective of the order, with what is proven of it.

    ``bound`` is on the better side of ``objective``: no plan that does as well at all levels before
    this one passes it. ``gap`` is their distance, 0 when proven best: relative to the larger of
    both, or at a level of service to the rate of all its demands.
    """

    name: str
    objective: float
    bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class Solution:
    """Whole replicas by pool, shares by (demand, pool), and the served share of every demand.

    Only what is above 0 is listed in ``replicas``, ``shares`` and ``cards``. ``unserved`` names the
    demands that are not served in full. ``objective``, ``bound`` and ``gap`` are those of the cost
    level: no plan that serves as much costs less than ``bound``. ``levels`` has all of them, served
    rates by priority first.
    """

    replicas: Mapping[str, int]
    shares: Mapping[tuple[str, str], float]
    served: Mapping[str, float]
    unserved: tuple[str, ...]
    cards: Mapping[str, int]
    cost_per_hour: float
    power_w: float
    switching_cost: float
    levels: tuple[Level, ...]
    method: Method
    time_s: float = field(default=0.0, compare=False)

    @property
    def cost_level(self) -> Level:
        return next(level for level in self.levels if level.name == COST)

    @property
    def objective(self) -> float:
        return self.cost_level.objective

    @property
    def bound(self) -> float:
        return self.cost_level.bound

    @property
    def gap(self) -> float:
        return self.cost_level.gap

    @property
    def worst_gap(self) -> float:
        """The largest gap of service and cost: 0 when the plan is proven best in both."""
        return max(level.gap for level in self.levels if level.name != SWITCHING)


COST = "cost"
SWITCHING = "switching"


def served_name(priority: int) -> str:
    """The name of the level that serves this priority."""
    return f"served, priority {priority}"


def gap_of(objective: float, bound: float, size: float = 0.0) -> float:
    """Distance of objective and bound relative to ``size`` or the largest; 0 within rounding."""
    distance, size = abs(objective - bound), max(abs(objective), abs(bound), size)
    return 0.0 if distance <= ROUNDING * max(1.0, size) else distance / size


def switching_cost(problem: Problem, replicas: Mapping[str, int],
                   shares: Mapping[tuple[str, str], float]) -> float:
    """Cost of starting, stopping and moving, as ``Switching`` defines it."""
    total = 0.0
    for pool in problem.pools:
        change = replicas.get(pool.name, 0) - pool.current_replicas
        total += problem.switching.start_cost * max(0, change)
        total += problem.switching.stop_cost * max(0, -change)
    pools = {pool.name: pool for pool in problem.pools}
    for demand in problem.demands:
        total += sum(move_cost(problem.switching, demand, option, pools)
                     * shares.get((demand.name, option.pool), 0.0)
                     for option in demand.options if demand.current)
    return total


def move_cost(switching: Switching, demand: Demand, option: Option,
              pools: Mapping[str, Pool]) -> float:
    """Return the cost of moving the whole demand to this option; 0 if the demand is there or
    nowhere."""
    if demand.current is None or demand.current.pool == option.pool:
        return 0.0
    there, here = pools[option.pool], pools[demand.current.pool]
    return switching.move_fraction * (there.cost_per_hour * replicas_for(option.load, there)
                                      + here.cost_per_hour * demand.current.load)


def check(problem: Problem, solution: Solution) -> list[str]:
    """Every way in which the solution breaks the problem or misstates itself; empty when sound.

    Shares no code with the solvers beyond the problem's definitions.
    """
    faults = [*_check_shares(problem, solution), *_check_pools(problem, solution)]
    pools = {pool.name: pool for pool in problem.pools}
    runs = {name: count for name, count in solution.replicas.items() if name in pools}
    cost = sum(pools[name].cost_per_hour * count for name, count in runs.items())
    power_w = sum(pools[name].power_w * count for name, count in runs.items())
    cards: dict[str, int] = {}
    for name, count in runs.items():
        for kind, each in pools[name].cards.items():
            cards[kind] = cards.get(kind, 0) + each * count
    for what, stated, true in (
            ("cost_per_hour", solution.cost_per_hour, cost), ("power_w", solution.power_w, power_w),
            ("switching_cost", solution.switching_cost,
             switching_cost(problem, solution.replicas, solution.shares))):
        if abs(stated - true) > SLACK * max(1.0, true):
            faults.append(f"{what} is stated as {stated}, but it is {true}")
    if dict(solution.cards) != cards:
        faults.append(f"cards are stated as {dict(solution.cards)}, but they are {cards}")
    for what, used, limit in (("cost", cost, problem.limits.cost_per_hour),
                              ("power", power_w, problem.limits.power_w)):
        if limit is not None and used > limit + SLACK * max(1.0, limit):
            faults.append(f"{what} {used} is over the limit {limit}")
    for kind, count in problem.supply.cards.items():
        if cards.get(kind, 0) > count:
            faults.append(f"{cards[kind]} cards of {kind!r} are used, {count} are there")
    return faults


def _check_shares(problem: Problem, solution: Solution) -> list[str]:
    faults = []
    allowed = {(d.name, o.pool) for d in problem.demands for o in usable_options(d)}
    faults += [f"share of {key} is no option" for key in solution.shares if key not in allowed]
    faults += [f"share of {key} is {share}" for key, share in solution.shares.items()
               if not 0.0 < share <= 1.0 + SLACK]
    by_demand: dict[str, list[float]] = {}
    for (name, _), share in solution.shares.items():
        by_demand.setdefault(name, []).append(share)
    for demand in problem.demands:
        own = by_demand.get(demand.name, [])
        served = solution.served.get(demand.name, 0.0)
        if sum(own) > 1.0 + SLACK or abs(served - sum(own)) > SLACK:
            faults.append(f"{demand.name!r} has shares {own} and is said to be served {served}")
        if not demand.mixed and len(own) > 1:
            faults.append(f"{demand.name!r} is split over {len(own)} pools")
        if not demand.partial and SLACK < served < 1.0 - SLACK:
            faults.append(f"{demand.name!r} is served in part ({served})")
        if (served < 1.0 - SLACK) != (demand.name in solution.unserved):
            faults.append(f"{demand.name!r} is served {served}; unserved: {solution.unserved}")
    return faults


def _check_pools(problem: Problem, solution: Solution) -> list[str]:
    known = {pool.name for pool in problem.pools}
    faults = [f"pool {name!r} is unknown" for name in solution.replicas if name not in known]
    loads = {(d.name, o.pool): o.load for d in problem.demands for o in d.options}
    carried: dict[str, float] = {}
    for key, share in solution.shares.items():
        carried[key[1]] = carried.get(key[1], 0.0) + share * loads.get(key, 0.0)
    for pool in problem.pools:
        count, load = solution.replicas.get(pool.name, 0), carried.get(pool.name, 0.0)
        if load > count + SLACK * max(1, count):
            faults.append(f"pool {pool.name!r} carries {load} on {count} replicas")
        if count and count < pool.min_replicas:
            faults.append(f"pool {pool.name!r} runs {count}, fewer than {pool.min_replicas}")
        if pool.max_replicas is not None and count > pool.max_replicas:
            faults.append(f"pool {pool.name!r} runs {count}, more than {pool.max_replicas}")
    return faults
