"""The proven best plan: one mixed-integer program for each level."""

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from penstock.plan.assign.greedy import greedy_shares
from penstock.plan.assign.highs import Answer, solve_program
from penstock.plan.assign.instance import Floats, Instance, build_instance, shares_of
from penstock.plan.assign.levels import Goal, Outcome, Stage, solve_levels
from penstock.plan.assign.milp import (
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
from penstock.plan.assign.order import KEEP, SAME, better_of, fits, squared
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.solution import ROUNDING, Method, Solution

# Above this many columns, or nodes, ties stay as the solver found them.
_TIE_COLUMNS, _TIE_NODES = 2000, 200


def solve_exact(problem: Problem, *, gap: float = 0.0, time_limit_s: float = 60.0,
                start: Solution | None = None) -> Solution:
    """The best plan by levels: served rate of each priority, cost, switching cost, names.

    A level stops at relative ``gap``. All levels share ``time_limit_s``; when it is reached, the
    best plan so far is returned with its proven gap. ``start`` is a plan of the same problem to
    start from. Raises InputError for a malformed problem.
    """
    began_s = time.perf_counter()
    instance = build_instance(problem)
    best = first_plan(instance, time_limit_s)
    if start is not None:
        best = better_of(instance, best, shares_of(instance, start))
    return solve_levels(instance, ExactEngine(instance, gap), best, began_s, time_limit_s)


def first_plan(instance: Instance, time_limit_s: float) -> Floats:
    """A greedy plan's shares (options,); priced by the relaxation where all could be served."""
    best = greedy_shares(instance)
    skipped = np.diff(instance.first_option) == 0
    if skipped.any() or not len(instance.resources):
        return best
    milp = build_milp(instance, ~skipped, skipped)
    answer = solve_program(milp.program.arrays(), vector(milp, cost_terms(milp)), relaxed=True,
                           time_limit_s=time_limit_s / 4)
    if answer.status != "optimal" or answer.row_duals is None:
        return best
    prices = np.maximum(-answer.row_duals[milp.resource_rows], 0.0)
    return better_of(instance, best, greedy_shares(instance, prices))


@dataclass(slots=True)
class ExactEngine:
    """Levels as mixed-integer programs, stopped at relative ``gap``."""

    instance: Instance
    gap: float
    method: ClassVar[Method] = "exact"

    def solve(self, goal: Goal, stage: Stage, best: Floats | None, time_limit_s: float) -> Outcome:
        milp = stage_milp(self.instance, stage)
        terms, constant, scale = goal_terms(milp, goal)
        cost = vector(milp, terms)
        names = goal.kind == "names"
        if names and milp.program.num_columns > _TIE_COLUMNS:
            return Outcome(None)
        program = milp.program
        if best is None and solve_program(
                program.arrays(), cost, relaxed=True).status == "infeasible":
            return Outcome(None, infeasible=True)
        answer = solve_program(program.arrays(), cost, gap=self.gap, time_limit_s=time_limit_s,
                               node_limit=_TIE_NODES if names else None,
                               start=None if best is None else encode(milp, best))
        if answer.status == "infeasible":
            return Outcome(None, infeasible=True)
        shares = shares_that_fit(milp, answer, cost)
        return Outcome(shares, scale * (_bound(milp, answer, shares, cost) + constant))


def _bound(milp: Milp, answer: Answer, shares: Floats | None, cost: Floats) -> float:
    """The solver's bound. The solver's numbers are whole only up to its tolerance, so where its
    answer is proven best, the bound moves with the answer as its numbers are made whole."""
    proven = answer.objective - answer.bound <= ROUNDING * max(1.0, abs(answer.objective))
    if shares is None or answer.status != "optimal" or not proven:
        return answer.bound
    moved = float(encode(milp, shares) @ cost) - answer.objective
    small = abs(moved) <= SAME * max(1.0, abs(answer.bound))
    return answer.bound + moved if small else answer.bound


def stage_milp(instance: Instance, stage: Stage) -> Milp:
    """The program of a stage, with the results of the levels before as rows."""
    milp = build_milp(instance, stage.full, stage.skipped)
    for priority, rate in stage.kept:
        total = priority_rate(instance, priority)
        milp.program.row(rate / total - KEEP, served_terms(milp, priority, total), np.inf)
    if stage.cost_limit is not None:
        terms, constant = _cost(milp)
        milp.program.row(-np.inf, _merged(terms), _slack(stage.cost_limit) - constant)
    if stage.switching_limit is not None:
        terms, constant = switching_terms(milp)
        milp.program.row(-np.inf, _merged(terms), _slack(stage.switching_limit) - constant)
    return milp


def goal_terms(milp: Milp, goal: Goal) -> tuple[Terms, float, float]:
    """Terms and constant of the minimised goal, and the factor that converts them to its units."""
    if goal.kind == "served":
        total = priority_rate(milp.instance, goal.priority)
        terms = served_terms(milp, goal.priority, total)
        return [(column, -value) for column, value in terms], 0.0, total
    if goal.kind == "cost":
        return *_cost(milp), 1.0
    if goal.kind == "switching":
        return *switching_terms(milp), 1.0
    return name_terms(milp), 0.0, 1.0


def priority_rate(instance: Instance, priority: int) -> float:
    """The rate of all demands of a priority."""
    return sum(d.rate_per_s for d in instance.problem.demands if d.priority == priority)


def _slack(limit: float) -> float:
    return limit + KEEP * max(1.0, abs(limit))


def _cost(milp: Milp) -> tuple[Terms, float]:
    terms = cost_terms(milp)
    if not milp.instance.problem.switching.in_cost:
        return terms, 0.0
    moves, constant = switching_terms(milp)
    return [*terms, *moves], constant


def shares_that_fit(milp: Milp, answer: Answer, cost: Floats) -> Floats | None:
    """Shares (options,) of an answer that fit exactly; None if there is no such answer."""
    if answer.values is None:
        return None
    shares = decode(milp, answer.values)
    if fits(milp.instance, shares):
        return squared(milp.instance, shares)
    # Rounding went the wrong way: hold the whole numbers and let the rest follow.
    arrays = milp.program.arrays()
    whole = np.round(answer.values)
    held = replace(arrays, lower=np.where(arrays.integer, whole, arrays.lower),
                   upper=np.where(arrays.integer, whole, arrays.upper))
    fixed = solve_program(held, cost, relaxed=True)
    if fixed.values is None:
        return None
    shares = decode(milp, fixed.values)
    return squared(milp.instance, shares) if fits(milp.instance, shares) else None


def _merged(terms: Terms) -> Terms:
    """The same terms with each column once."""
    found: dict[int, float] = {}
    for column, coefficient in terms:
        found[column] = found.get(column, 0.0) + coefficient
    return sorted(found.items())
