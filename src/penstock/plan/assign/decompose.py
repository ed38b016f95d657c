"""Plans for thousands of demands: columns by block, joined by what is scarce.

Dantzig and Wolfe's decomposition (1960). A block is a set of demands that shared pools connect;
blocks compete only for accelerators and budgets. A linear program picks one plan (column) for each
block. The duals of its scarce rows price the search for better columns and give Lagrange's bound,
which holds for any prices. Then small integer programs over columns that are nearly as good make
the plan whole.
"""

import time
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from penstock.plan.assign.blocks import find_blocks
from penstock.plan.assign.closing import Closing
from penstock.plan.assign.columns import ColumnMaker, Columns, join, take
from penstock.plan.assign.greedy import filled_shares, greedy_shares
from penstock.plan.assign.highs import solve_program
from penstock.plan.assign.instance import Floats, Instance, build_instance, shares_of
from penstock.plan.assign.levels import Goal, Outcome, Stage, solve_levels
from penstock.plan.assign.master import Master, Relaxed, least_of
from penstock.plan.assign.order import better_of
from penstock.plan.assign.pricing import BlockPricer
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.rounding import Rounding
from penstock.plan.assign.solution import Method, Solution

# The most rounds of pricing. They also end when less than this share of the gap is left to gain.
_ROUNDS, _LEFT = 40, 0.05


def solve_decomposed(problem: Problem, *, gap: float = 1e-4, time_limit_s: float = 60.0,
                     start: Solution | None = None) -> Solution:
    """A good plan with a valid bound at every level, as ``solve_exact``, for many small blocks.

    A level stops at relative ``gap``. If time runs out before, the stated gap is the proven gap.
    Raises InputError for a malformed problem.
    """
    began_s = time.perf_counter()
    instance = build_instance(problem)
    best = greedy_shares(instance)
    if start is not None:
        best = better_of(instance, best, shares_of(instance, start))
    return solve_levels(instance, ColumnEngine(instance, gap), best, began_s, time_limit_s)


@dataclass(slots=True)
class ColumnEngine:
    """Solves levels by columns. Columns that were found at one level are used at the next."""

    instance: Instance
    gap: float
    maker: ColumnMaker = field(init=False)
    table: Columns = field(init=False)
    method: ClassVar[Method] = "decompose"

    def __post_init__(self) -> None:
        self.maker = ColumnMaker(self.instance, find_blocks(self.instance))
        self.table = self.maker.pure()

    def solve(self, goal: Goal, stage: Stage, best: Floats | None, time_limit_s: float) -> Outcome:
        if goal.kind == "names" or best is None:
            return Outcome(None)
        ends_s = time.perf_counter() + time_limit_s
        self.table = join([self.table, self.maker.from_shares(best)])
        master = Master.of(self.maker, goal, stage)
        if not self.maker.blocks:
            return Outcome(best, master.value(best))  # there is only one plan
        # A third of the time is left for whole plans.
        relaxed = self._generate(master, ends_s - time_limit_s / 3)
        if relaxed is None:
            return Outcome(None)
        tolerance = self.gap * max(abs(relaxed.bound), master.size)
        closing = Closing(master, relaxed, tolerance, ends_s)
        best, bound = closing.run(best)
        if master.value(best) - bound > tolerance:
            rounding = Rounding(master, relaxed, tolerance, ends_s)
            best = self._better(master, best, rounding.run(best))
            best, again = closing.run(best)
            bound = max(bound, again)
        return Outcome(best, bound)

    def _better(self, master: Master, best: Floats, shares: Floats | None) -> Floats:
        if shares is not None and master.goal.served.any():
            shares = filled_shares(self.instance, shares)
        return best if shares is None or master.value(best) <= master.value(shares) else shares

    def _generate(self, master: Master, ends_s: float) -> Relaxed | None:
        """Make columns until none improves the relaxation, or until its bound is near enough."""
        pricer = BlockPricer(self.instance, self.maker, master.stage)
        best: Relaxed | None = None
        for _ in range(_ROUNDS):
            columns = take(self.table, master.allows(self.table))
            answer = solve_program(master.program(columns), master.goal.scores(columns),
                                   relaxed=True, time_limit_s=ends_s - time.perf_counter())
            if answer.values is None or answer.row_duals is None:
                break
            num_blocks = len(self.maker.blocks)
            prices = np.maximum(-answer.row_duals[num_blocks:], 0.0) / master.scale
            weights = master.weights(prices)
            known = least_of(weights.scores(columns), columns.block, num_blocks)
            priced = pricer.price(weights, known, max(0.0, ends_s - time.perf_counter()))
            bound = float(priced.least.sum() - prices @ master.limit) + master.constant
            if best is None or bound >= best.bound:
                best = Relaxed(columns, answer.values, weights, priced.least, bound)
            left = answer.objective + master.constant - best.bound
            if priced.columns is None or time.perf_counter() > ends_s or (
                    left <= _LEFT * self.gap * max(abs(best.bound), master.size)):
                break
            self.table = join([self.table, priced.columns])
        return best
