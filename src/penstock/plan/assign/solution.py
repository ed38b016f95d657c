"""A plan, and how good it is proven to be."""

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
)

# The largest error of a sum of rounded shares.
SLACK = 10 * TOLERANCE
# A relative distance of objective and bound up to this is rounding.
ROUNDING = 1e-9

Method = Literal["exact", "decompose", "heuristic"]


@dataclass(frozen=True, slots=True)
class Level:
    """One objective of the order, and its proven bound.

    ``bound`` is on the better side of ``objective``: no plan that does as well at all earlier
    levels passes it. ``gap`` is the distance of the two, 0 when proven best. It is relative to the
    larger of both, or at a level of service to the rate of all its demands.
    """

    name: str
    objective: float
    bound: float
    gap: float


@dataclass(frozen=True, slots=True)
class Solution:
    """Whole replicas by pool, shares by (demand, pool), and the served share of every demand.

    ``replicas``, ``shares`` and ``accelerators`` list only what is above 0. ``unserved`` names the
    demands that are not served in full. ``objective``, ``bound`` and ``gap`` are those of the cost
    level: no plan that serves as much costs less than ``bound``. ``levels`` has all of them, served
    rates by priority first.
    """

    replicas: Mapping[str, int]
    shares: Mapping[tuple[str, str], float]
    served: Mapping[str, float]
    unserved: tuple[str, ...]
    accelerators: Mapping[str, int]
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
