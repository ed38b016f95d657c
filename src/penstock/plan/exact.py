"""The proven best plan: one mixed-integer program per level of the order."""

import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from penstock.plan.greedy import fits, greedy_shares
from penstock.plan.highs import Answer, solve_program
from penstock.plan.instance import (
    Floats,
    Instance,
    build_instance,
    make_solution,
    served_shares,
    shares_of,
)
from penstock.plan.milp import (
    Milp,
    Terms,
    build_milp,
    cost_terms,
    decode,
    encode,
    name_terms,
    served_terms,
    switching_terms,
    vector,
)
from penstock.plan.order import KEEP, is_better, objective_vector, switching
from penstock.plan.problem import Problem
from penstock.plan.solution import (
    COST,
    SLACK,
    SWITCHING,
    Level,
    Solution,
    gap_of,
    served_name,
)

# Beyond this many columns, or nodes, ties are left as the solver found them.
_TIE_COLUMNS, _TIE_NODES = 2000, 200


def solve_exact(problem: Problem, *, gap: float = 0.0, time_limit_s: float = 60.0,
                start: Solution | None = None) -> Solution:
    """Best plan by levels: served rate of each priority, cost, switching cost, names.

    Stops a level at relative ``gap``. ``time_limit_s`` is shared by the levels; when it is reached
    the best plan found is returned with the gap that is then proven. ``start`` is a plan of the
    same problem to start from. Raises InputError for a malformed problem.
    """
    search = _Search(build_instance(problem), gap, time.perf_counter(), time_limit_s)
    if start is not None:
        search.offer(shares_of(search.instance, start))
    search.serve()
    search.spend()
    if search.switches:
        search.settle()
    search.break_ties()
    return make_solution(search.instance, search.best, tuple(search.levels), "exact",
                         time.perf_counter() - search.began_s)


@dataclass(slots=True)
class _Search:
    """State of one solve. ``full`` are the demands known to be served whole in some best plan of
    the levels so far; ``kept`` the optimum of levels that serve less than everything."""

    instance: Instance
    gap: float
    began_s: float
    limit_s: float
    best: Floats = field(init=False)
    levels: list[Level] = field(default_factory=list)
    full: NDArray[np.bool_] = field(init=False)
    skipped: NDArray[np.bool_] = field(init=False)
    kept: list[tuple[int, float]] = field(default_factory=list)
    spent: Answer | None = None

    def __post_init__(self) -> None:
        instance = self.instance
        self.full = np.zeros(instance.num_demands, dtype=bool)
        self.skipped = np.diff(instance.first_option) == 0
        self.best = greedy_shares(instance)
        prices = self._resource_prices()
        if prices is not None:
            self.offer(greedy_shares(instance, prices))

    @property
    def switches(self) -> bool:
        problem = self.instance.problem
        switching = problem.switching
        return bool(switching.start_cost or switching.stop_cost or switching.move_fraction) and (
            any(p.current_replicas for p in problem.pools)
            or any(d.current for d in problem.demands))

    def left_s(self) -> float:
        return max(0.0, self.limit_s - (time.perf_counter() - self.began_s))

    def offer(self, shares: Floats) -> None:
        """Takes a plan as the best so far if it fits and is better."""
        if fits(self.instance, shares) and is_better(objective_vector(self.instance, shares),
                                                     objective_vector(self.instance, self.best)):
            self.best = shares

    def _resource_prices(self) -> Floats | None:
        """Duals of what is scarce when everything is served, relaxed; None when that is
        impossible."""
        if self.skipped.any() or not len(self.instance.resources):
            return None
        milp = build_milp(self.instance, ~self.full, self.skipped)
        answer = solve_program(milp.program, vector(milp, cost_terms(milp)), relaxed=True,
                               time_limit_s=self.left_s() / 4)
        if answer.status != "optimal" or answer.row_duals is None:
            return None
        return np.asarray(np.maximum(-answer.row_duals[milp.resource_rows], 0.0))

    def _weights(self) -> dict[int, float]:
        """Rate by priority, first one first."""
        weights: dict[int, float] = {}
        for demand in sorted(self.instance.problem.demands, key=lambda d: d.priority):
            weights[demand.priority] = weights.get(demand.priority, 0.0) + demand.rate_per_s
        return weights

    def serve(self) -> None:
        """Levels of service; each is skipped where all that can be served already is."""
        if self._serves_everything():
            self.full[:] = True
            self.levels += [Level(served_name(p), total, total, 0.0)
                            for p, total in self._weights().items()]
            return
        demands = self.instance.problem.demands
        for priority, total in self._weights().items():
            group = np.array([d.priority == priority for d in demands])
            self._serve(priority, total, group)

    def _serves_everything(self) -> bool:
        """Whether a plan that serves everything is at hand or found."""
        if served_shares(self.instance, self.best).min(initial=1.0) >= 1.0 - SLACK:
            return True
        if self.skipped.any():
            return False
        everything = np.ones_like(self.full)
        milp = build_milp(self.instance, everything, self.skipped)
        cost = vector(milp, self._cost(milp)[0])
        if solve_program(milp.program, cost, relaxed=True).status == "infeasible":
            return False
        answer = solve_program(milp.program, cost, gap=self.gap, time_limit_s=self.left_s() / 2)
        if answer.values is None:
            return False
        shares = self._shares(milp, answer, cost)
        if shares is None:
            return False
        self.best = shares
        self.spent = answer
        return True

    def _serve(self, priority: int, total: float, group: NDArray[np.bool_]) -> None:
        """Serves as much as possible of one priority."""
        demands = self.instance.problem.demands
        rates = np.array([d.rate_per_s for d in demands])
        now = float((served_shares(self.instance, self.best) * rates)[group].sum())
        most = float(rates[group & ~self.skipped].sum())
        bound = most
        if now < most * (1.0 - KEEP) and total > 0.0:
            milp = self._milp()
            cost = -vector(milp, served_terms(milp, priority, total))
            answer = self._solve(milp, cost, self.left_s() / 2)
            if np.isfinite(answer.bound):
                bound = min(most, -answer.bound * total)
            now = float((served_shares(self.instance, self.best) * rates)[group].sum())
        self.levels.append(Level(served_name(priority), now, max(bound, now), gap_of(now, bound)))
        if now >= most * (1.0 - KEEP) and most > 0.0:
            self.full |= group & ~self.skipped & (rates > 0.0)
        elif total > 0.0:
            self.kept.append((priority, now / total))

    def _milp(self) -> Milp:
        """The program in which all levels so far keep what they reached."""
        milp = build_milp(self.instance, self.full, self.skipped)
        weights = self._weights()
        for priority, value in self.kept:
            milp.program.row(value - KEEP, served_terms(milp, priority, weights[priority]), np.inf)
        return milp

    def _cost(self, milp: Milp) -> tuple[Terms, float]:
        terms = cost_terms(milp)
        if not self.instance.problem.switching.in_cost:
            return terms, 0.0
        moves, constant = switching_terms(milp)
        return [*terms, *moves], constant

    def spend(self) -> None:
        """The least cost of serving as much."""
        milp = self._milp()
        terms, constant = self._cost(milp)
        cost = vector(milp, terms)
        # The search for a plan that serves everything may have been this very level.
        answer = self.spent if self.spent is not None and self.spent.status == "optimal" else (
            self._solve(milp, cost, self.left_s()))
        now = objective_vector(self.instance, self.best)[-2]
        bound = min(now, max(0.0, answer.bound + constant)) if np.isfinite(answer.bound) else 0.0
        self.levels.append(Level(COST, now, bound, gap_of(now, bound)))

    def settle(self) -> None:
        """The least switching cost of plans at that cost."""
        milp, moves, constant = self._at_cost()
        answer = self._solve(milp, vector(milp, moves), self.left_s())
        now = switching(self.instance, self.best)
        bound = min(now, max(0.0, answer.bound + constant)) if np.isfinite(answer.bound) else 0.0
        self.levels.append(Level(SWITCHING, now, bound, gap_of(now, bound)))

    def _at_cost(self) -> tuple[Milp, Terms, float]:
        """The program with the cost of the best plan as its limit, and its switching terms."""
        milp = self._milp()
        terms, constant = self._cost(milp)
        moves, moves_constant = switching_terms(milp)
        cost = objective_vector(self.instance, self.best)[-2] - constant
        milp.program.row(-np.inf, _merged(terms), cost + KEEP * max(1.0, abs(cost)))
        return milp, moves, moves_constant

    def break_ties(self) -> None:
        """Among plans as good, the one on pools whose names come first, if that is soon found."""
        milp, moves, constant = self._at_cost()
        if milp.program.num_columns > _TIE_COLUMNS or self.left_s() == 0.0:
            return
        limit = switching(self.instance, self.best) - constant
        if self.switches:
            milp.program.row(-np.inf, _merged(moves), limit + KEEP * max(1.0, abs(limit)))
        names = vector(milp, name_terms(milp))
        answer = solve_program(milp.program, names, node_limit=_TIE_NODES,
                               time_limit_s=self.left_s(), start=encode(milp, self.best))
        shares = self._shares(milp, answer, names)
        if shares is not None and not is_better(objective_vector(self.instance, self.best),
                                                objective_vector(self.instance, shares)):
            self.best = shares

    def _solve(self, milp: Milp, cost: Floats, time_limit_s: float) -> Answer:
        """Solves from the best plan, and takes what is found if it is better."""
        answer = solve_program(milp.program, cost, gap=self.gap, time_limit_s=time_limit_s,
                               start=encode(milp, self.best))
        shares = self._shares(milp, answer, cost)
        if shares is not None:
            self.offer(shares)
        return answer

    def _shares(self, milp: Milp, answer: Answer, cost: Floats) -> Floats | None:
        """Shares of an answer that fit exactly; None if there is no such answer."""
        if answer.values is None:
            return None
        shares = decode(milp, answer.values)
        if fits(self.instance, shares):
            return shares
        # Rounding went the wrong way: hold the whole numbers and let the rest follow.
        program = milp.program
        whole = [round(v) for v in answer.values.tolist()]
        lower = [float(w) if i else low for w, i, low
                 in zip(whole, program.integer, program.lower, strict=True)]
        upper = [float(w) if i else up for w, i, up
                 in zip(whole, program.integer, program.upper, strict=True)]
        fixed = solve_program(replace(program, lower=lower, upper=upper), cost, relaxed=True)
        if fixed.values is None:
            return None
        shares = decode(milp, fixed.values)
        return shares if fits(self.instance, shares) else None


def _merged(terms: Terms) -> Terms:
    """The same terms with each column once."""
    found: dict[int, float] = {}
    for column, coefficient in terms:
        found[column] = found.get(column, 0.0) + coefficient
    return sorted(found.items())
