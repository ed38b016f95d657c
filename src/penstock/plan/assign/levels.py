"""One level after another: service by priority, cost, switching, names.

An engine solves a level: one mixed-integer program (``exact``) or columns by block (``decompose``).
"""

import time
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.instance import Floats, Instance, make_solution, served_shares
from penstock.plan.assign.order import SAME, fits, is_better, objective_vector, squared, switching
from penstock.plan.assign.solution import (
    COST,
    SLACK,
    SWITCHING,
    Level,
    Method,
    Solution,
    gap_of,
    served_name,
)


@dataclass(frozen=True, slots=True)
class Goal:
    """Quantity that a level minimizes: minus the served rate of a priority, cost, switching cost,
    or the places of pools among the names."""

    kind: Literal["served", "cost", "switching", "names"]
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """The results of the levels before.

    Demands (demands,) in ``full`` are served whole; ``skipped`` demands have no option. ``kept``
    are served rates by priority that must not fall. The limits are those of cost and switching
    cost.
    """

    full: NDArray[np.bool_]
    skipped: NDArray[np.bool_]
    kept: tuple[tuple[int, float], ...] = ()
    cost_limit: float | None = None
    switching_limit: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """``shares`` (options,) of the plan found. No plan of the stage is below ``bound``."""

    shares: Floats | None
    bound: float = -np.inf
    infeasible: bool = False


class Engine(Protocol):
    """Solves one level."""

    method: ClassVar[Method]

    def solve(self, goal: Goal, stage: Stage, best: Floats | None, time_limit_s: float) -> Outcome:
        """``best`` is a plan of the stage to start from; without one it may be infeasible."""


def solve_levels(instance: Instance, engine: Engine, best: Floats, began_s: float,
                 time_limit_s: float) -> Solution:
    """The plan that is best in the order of levels, from any that fits: ``best`` (options,)."""
    search = _Levels(instance, engine, best, began_s, time_limit_s)
    search.serve()
    search.spend()
    if search.switches:
        search.settle()
    search.break_ties()
    return make_solution(instance, search.best, tuple(search.levels), engine.method,
                         time.perf_counter() - began_s)


@dataclass(slots=True)
class _Levels:
    """State of one solve. ``full`` are the demands known to be served whole in some best plan of
    the levels so far; ``kept`` the optimum of levels that serve less than everything."""

    instance: Instance
    engine: Engine
    best: Floats
    began_s: float
    limit_s: float
    levels: list[Level] = field(default_factory=list)
    full: NDArray[np.bool_] = field(init=False)
    skipped: NDArray[np.bool_] = field(init=False)
    kept: list[tuple[int, float]] = field(default_factory=list)
    spent: Outcome | None = None

    def __post_init__(self) -> None:
        self.full = np.zeros(self.instance.num_demands, dtype=bool)
        self.skipped = np.diff(self.instance.first_option) == 0

    @property
    def switches(self) -> bool:
        problem = self.instance.problem
        costs = problem.switching
        return bool(costs.start_cost or costs.stop_cost or costs.move_fraction) and (
            any(p.current_replicas for p in problem.pools)
            or any(d.current for d in problem.demands))

    def left_s(self) -> float:
        return max(0.0, self.limit_s - (time.perf_counter() - self.began_s))

    def offer(self, shares: Floats | None) -> None:
        """Takes a plan as the best so far if it fits and is better."""
        if shares is None or not fits(self.instance, shares):
            return
        shares = squared(self.instance, shares)
        if is_better(objective_vector(self.instance, shares),
                     objective_vector(self.instance, self.best)):
            self.best = shares

    def stage(self, cost_limit: float | None = None,
              switching_limit: float | None = None) -> Stage:
        return Stage(self.full, self.skipped, tuple(self.kept), cost_limit, switching_limit)

    def serve(self) -> None:
        """Levels of service; each is skipped where all that can be served already is."""
        demands = self.instance.problem.demands
        priorities = sorted({d.priority for d in demands})
        self._try_everything()
        rates = np.array([d.rate_per_s for d in demands])
        for priority in priorities:
            group = np.array([d.priority == priority for d in demands])
            self._serve(priority, group, rates)

    def _try_everything(self) -> None:
        """Looks for the cheapest plan that serves everything, if none is at hand."""
        if self.skipped.any() or self._served().min(initial=1.0) >= 1.0 - SLACK:
            return
        outcome = self.engine.solve(Goal("cost"), Stage(~self.skipped, self.skipped), None,
                                    self.left_s() / 2)
        before = self.best
        self.offer(outcome.shares)
        if self.best is not before and not outcome.infeasible:
            self.spent = outcome

    def _served(self) -> Floats:
        return served_shares(self.instance, self.best)

    def _serve(self, priority: int, group: NDArray[np.bool_], rates: Floats) -> None:
        """Serves as much as possible of one priority."""
        now = float((self._served() * rates)[group].sum())
        most = float(rates[group & ~self.skipped].sum())
        bound = most
        if now < most * (1.0 - SAME):
            outcome = self.engine.solve(Goal("served", priority), self.stage(), self.best,
                                        self.left_s() / 2)
            self.offer(outcome.shares)
            bound = min(most, -outcome.bound)
            now = float((self._served() * rates)[group].sum())
        bound = max(bound, now)
        total = float(rates[group].sum())
        self.levels.append(Level(served_name(priority), now, bound, gap_of(now, bound, total)))
        if now >= most * (1.0 - SAME):
            self.full |= group & ~self.skipped & (self._served() >= 1.0 - SLACK)
        else:
            self.kept.append((priority, now))

    def spend(self) -> None:
        """The least cost of serving as much."""
        outcome = self.spent
        if outcome is None or not self.full.all() or gap_of(self._cost(), outcome.bound) > 0.0:
            outcome = self.engine.solve(Goal("cost"), self.stage(), self.best, self.left_s())
            self.offer(outcome.shares)
        self._append(COST, self._cost(), outcome.bound)

    def _cost(self) -> float:
        return objective_vector(self.instance, self.best)[-2]

    def _append(self, name: str, now: float, bound: float) -> None:
        bound = min(now, max(0.0, bound))
        self.levels.append(Level(name, now, bound, gap_of(now, bound)))

    def settle(self) -> None:
        """The least switching cost of plans at that cost."""
        outcome = self.engine.solve(Goal("switching"), self.stage(self._cost()), self.best,
                                    self.left_s())
        self.offer(outcome.shares)
        self._append(SWITCHING, switching(self.instance, self.best), outcome.bound)

    def break_ties(self) -> None:
        """Among plans as good, the one on pools whose names come first, if that is soon found."""
        limit = switching(self.instance, self.best) if self.switches else None
        stage = self.stage(self._cost(), limit)
        shares = self.engine.solve(Goal("names"), stage, self.best, self.left_s()).shares
        if shares is not None and fits(self.instance, shares) and not is_better(
                objective_vector(self.instance, self.best),
                objective_vector(self.instance, shares)):
            self.best = squared(self.instance, shares)
