"""Plans for thousands of demands: columns by block, joined by what is scarce.

Dantzig and Wolfe's decomposition (1960). A block is what shared pools tie together; blocks meet
only in cards and budgets. A linear program picks one plan (column) for each block; the duals of its
scarce rows price the search for better columns, and give Lagrange's bound, which holds whatever the
prices are. A small integer program over the columns that are nearly as good makes the plan whole.
"""

import time
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.blocks import find_blocks
from penstock.plan.assign.columns import ColumnMaker, Columns, join, take
from penstock.plan.assign.greedy import filled_shares, greedy_shares
from penstock.plan.assign.highs import Arrays, solve_program
from penstock.plan.assign.instance import Floats, Instance, Ints, build_instance, shares_of
from penstock.plan.assign.levels import Goal, Outcome, Stage, solve_levels
from penstock.plan.assign.order import KEEP, better_of, fits
from penstock.plan.assign.pricing import BlockPricer, Weights
from penstock.plan.assign.problem import Problem
from penstock.plan.assign.solution import Method, Solution, gap_of

_ROUNDS = 40
# By how much the first integer program grows while it has no solution; then, where more than this
# share of the level is at stake, passes that better the best plan.
_WIDER = (1, 4)
_WORTH, _PASSES = 0.005, 8
# Blocks whose choice is open in the first integer program, columns of each, and nodes.
_OPEN_BLOCKS, _OPEN_COLUMNS, _NODES = 300, 12, 500
# Of demands that may be served in part: how many blocks, columns of each, and parts of an option.
_PART_BLOCKS, _OPEN_PARTS, _BETWEEN = 60, 80, 12
# The proof takes all columns within the gap, unless there are more than this.
_PROOF_COLUMNS = 20_000


def solve_decomposed(problem: Problem, *, gap: float = 1e-4, time_limit_s: float = 60.0,
                     start: Solution | None = None) -> Solution:
    """Good plan with a valid bound at every level, as ``solve_exact``, for many small blocks.

    Stops a level at relative ``gap``; otherwise the gap that is stated is what could be proven.
    Raises InputError for a malformed problem.
    """
    began_s = time.perf_counter()
    instance = build_instance(problem)
    best = greedy_shares(instance)
    if start is not None:
        best = better_of(instance, best, shares_of(instance, start))
    return solve_levels(instance, ColumnEngine(instance, gap), best, began_s, time_limit_s)


@dataclass(frozen=True, slots=True)
class _Relaxed:
    """Answer of the relaxed master over ``columns``: how much of each is taken, what each is worth
    over the best of its block at the prices (``excess``), and Lagrange's bound at these prices."""

    columns: Columns
    taken: Floats
    excess: Floats
    weights: Weights
    bound: float


@dataclass(slots=True)
class ColumnEngine:
    """Levels by columns. Columns that were found at one level serve the next."""

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
        level = _Level.of(self.maker, goal, stage)
        if not self.maker.blocks:
            return Outcome(best, level.value(best))  # there is but one plan
        # Half the time is for making the plan whole.
        relaxed = self._generate(level, ends_s - time_limit_s / 2)
        if relaxed is None:
            return Outcome(None)
        shares = self._round(level, relaxed, best, ends_s)
        if shares is not None and goal.kind == "served":
            shares = filled_shares(self.instance, shares)
        if shares is None or level.value(best) <= level.value(shares):
            shares = best
        bound = relaxed.bound
        if gap_of(level.value(shares), bound) > self.gap:
            shares, bound = self._prove(level, relaxed, shares, ends_s)
        return Outcome(shares, bound)

    def _generate(self, level: "_Level", ends_s: float) -> _Relaxed | None:
        """Columns until none improves the relaxation, or its bound is near enough."""
        pricer = BlockPricer(self.instance, self.maker, level.stage)
        best: _Relaxed | None = None
        for _ in range(_ROUNDS):
            columns = take(self.table, level.allows(self.table))
            answer = solve_program(level.program(columns), level.goal.scores(columns), relaxed=True,
                                   time_limit_s=ends_s - time.perf_counter())
            if answer.values is None or answer.row_duals is None:
                break
            prices = np.maximum(-answer.row_duals[len(self.maker.blocks):], 0.0) / level.scale
            weights = level.weights(prices)
            scores = weights.scores(columns)
            known = _least(scores, columns.block, len(self.maker.blocks))
            priced = pricer.price(weights, known, max(0.0, ends_s - time.perf_counter()))
            bound = float(priced.least.sum() - prices @ level.limit) + level.constant
            best = _Relaxed(columns, answer.values, scores - known[columns.block], weights,
                            bound if best is None else max(bound, best.bound))
            if priced.columns is None or time.perf_counter() > ends_s or (
                    gap_of(answer.objective + level.constant, best.bound) <= self.gap / 4):
                break
            self.table = join([self.table, priced.columns])
        return best

    def _round(self, level: "_Level", relaxed: _Relaxed, best: Floats,
               ends_s: float) -> Floats | None:
        """Shares of a whole plan near the relaxed one: blocks that choose clearly are held."""
        taken, columns = relaxed.taken, relaxed.columns
        num_blocks = len(self.maker.blocks)
        split = _least(-taken, columns.block, num_blocks) > -1.0 + 1e-6
        between = self._between(level, relaxed, split)
        own = self.maker.from_shares(best)
        columns = join([columns, between, own])
        taken = np.concatenate([taken, np.zeros(len(between) + len(own))])
        is_own = np.arange(len(columns)) >= len(columns) - len(own)
        parts = np.zeros(num_blocks, dtype=bool)
        parts[between.block] = True
        scores = relaxed.weights.scores(columns)
        excess = scores - _least(scores, columns.block, num_blocks)[columns.block]
        place = _places(columns.block, excess)
        held = np.lexsort((-taken, columns.block))
        held = held[np.searchsorted(columns.block[held], np.arange(num_blocks))]
        second = np.full(num_blocks, np.inf)
        second[columns.block[place == 1]] = excess[place == 1]
        for factor in _WIDER:
            open_blocks = split | parts | (_rank(second) < _OPEN_BLOCKS * factor)
            depth = np.where(parts, _OPEN_PARTS, _OPEN_COLUMNS)[columns.block]
            kept = open_blocks[columns.block] & ((place < depth) | (taken > 0.0) | is_own)
            kept[held] = True
            shares = self._integer(level, take(columns, kept), ends_s, node_limit=_NODES)[0]
            if shares is not None:
                return shares
        if level.value(best) - relaxed.bound > _WORTH * level.size:
            return self._improve(level, relaxed.weights, take(columns, ~is_own), best, ends_s)
        return None

    def _improve(self, level: "_Level", weights: Weights, columns: Columns, best: Floats,
                 ends_s: float) -> Floats:
        """The best plan, bettered a part at a time: each time the blocks are open that are worst
        off at the prices, all others stay. Never fails, as the best plan is there to start from."""
        num_blocks = len(self.maker.blocks)
        lowest = _least(weights.scores(columns), columns.block, num_blocks)
        near = _places(columns.block, weights.scores(columns)) < _OPEN_COLUMNS
        for _ in range(_PASSES):
            own = self.maker.from_shares(best)
            open_blocks = _rank(lowest - weights.scores(own)) < _OPEN_BLOCKS * _WIDER[-1]
            choices = join([take(columns, near & open_blocks[columns.block]), own])
            start = (np.arange(len(choices)) >= len(choices) - len(own)).astype(np.float64)
            shares = self._integer(level, choices, ends_s, node_limit=_NODES, start=start)[0]
            gain = 0.0 if shares is None else level.value(best) - level.value(shares)
            if shares is not None and gain > 0.0:
                best = shares
            if gain <= self.gap * max(1.0, level.size) or time.perf_counter() > ends_s:
                break
        return best

    def _between(self, level: "_Level", relaxed: _Relaxed, split: NDArray[np.bool_]) -> Columns:
        """Columns that serve a part, for the blocks that the relaxation splits and for those that
        are left out most narrowly; they fill what whole ones leave over."""
        simple = np.array([block.kind != "general" for block in self.maker.blocks])
        simple &= ~level.stage.full[[block.demands[0] for block in self.maker.blocks]]
        short = relaxed.columns.served.sum(axis=1) <= 0.0
        out = np.zeros(len(simple), dtype=bool)
        out[relaxed.columns.block[short & (relaxed.taken > 0.5)]] = True
        served = np.where(short, np.inf, relaxed.excess)
        near = _rank(np.where(out & simple, _least(served, relaxed.columns.block, len(simple)),
                              np.inf)) < _PART_BLOCKS
        return self.maker.between(np.flatnonzero(simple & (split | (near & out))), _BETWEEN)

    def _integer(self, level: "_Level", columns: Columns, ends_s: float,
                 node_limit: int | None = None,
                 start: Floats | None = None) -> tuple[Floats | None, float]:
        """Best whole plan of these columns and HiGHS's bound for it."""
        goal = level.goal.scores(columns)
        arrays = replace(level.program(columns), integer=np.ones(len(columns), dtype=bool))
        answer = solve_program(arrays, goal, gap=self.gap, node_limit=node_limit, start=start,
                               time_limit_s=max(0.0, ends_s - time.perf_counter()))
        if answer.status == "infeasible" or answer.values is None:
            return None, -np.inf
        chosen = np.flatnonzero(answer.values > 0.5)
        shares = columns.shares(chosen, len(self.instance.option_demand))
        return (shares if fits(self.instance, shares) else None), answer.bound + level.constant

    def _prove(self, level: "_Level", relaxed: _Relaxed, best: Floats,
               ends_s: float) -> tuple[Floats, float]:
        """Solves over every column that a better plan may hold, if these are few.

        A plan better than ``best`` holds no column whose excess is more than the gap, by duality.
        """
        slack = (level.value(best) - relaxed.bound) * (1.0 + 1e-6)
        columns = self._within(level, relaxed, slack)
        if columns is None:
            return best, relaxed.bound
        own = self.maker.from_shares(best)
        start = np.zeros(len(columns) + len(own))
        start[len(columns):] = 1.0
        shares, bound = self._integer(level, join([columns, own]), ends_s, start=start)
        if shares is not None and level.value(shares) < level.value(best):
            best = shares
        return best, max(relaxed.bound, min(bound, level.value(best)))

    def _within(self, level: "_Level", relaxed: _Relaxed, slack: float) -> Columns | None:
        """All columns with at most this excess; None if they are too many or cannot be listed."""
        blocks = self.maker.blocks
        kinds = np.array([block.kind for block in blocks])
        if (kinds == "general").any():
            return None
        choice = kinds == "choice"
        table = relaxed.columns
        kept = take(table, choice[table.block] & (relaxed.excess <= slack))
        tables = [kept]
        open_blocks = [b for b in np.flatnonzero(choice)
                       if not level.stage.full[blocks[b].demands[0]]]
        if open_blocks:
            if self.maker.num_between(np.array(open_blocks)) > _PROOF_COLUMNS:
                return None
            between = self.maker.between(np.array(open_blocks, dtype=np.int64), _PROOF_COLUMNS)
            tables.append(between)
        pricer = BlockPricer(self.instance, self.maker, level.stage)
        total = sum(len(table) for table in tables)
        for number in np.flatnonzero(kinds == "cover"):
            found = pricer.covers_within(int(number), relaxed.weights, slack,
                                         _PROOF_COLUMNS - total)
            if found is None:
                return None
            total += len(found)
            tables.append(found)
        return join(tables) if total <= _PROOF_COLUMNS else None


@dataclass(frozen=True, slots=True)
class _Level:
    """A goal and a stage in terms of columns: goal + side rows ``row <= limit``, all weights.

    Programs may pass a limit by its ``slack``, for rounding; bounds hold for plans that do not.
    """

    maker: ColumnMaker
    stage: Stage
    goal: Weights
    rows: tuple[Weights, ...]
    limit: Floats
    slack: Floats
    constant: float

    @classmethod
    def of(cls, maker: ColumnMaker, goal: Goal, stage: Stage) -> "_Level":
        instance = maker.instance
        none = Weights(0.0, 0.0, np.zeros(len(instance.resources)),
                       np.zeros(len(maker.priorities)))
        in_cost = maker.idle if instance.problem.switching.in_cost else 0.0

        def served(priority: int, value: float) -> Weights:
            own = np.array(maker.priorities) == priority
            return replace(none, served=np.where(own, value, 0.0))

        goals = {"cost": (replace(none, cost=1.0), in_cost),
                 "switching": (replace(none, switching=1.0), maker.idle)}
        weights, constant = goals.get(goal.kind, (served(goal.priority, 1.0), 0.0))
        rows = [replace(none, resources=unit) for unit in np.eye(len(instance.resources))]
        limits, slack = instance.supply.tolist(), [0.0] * len(instance.supply)
        for priority, rate in stage.kept:
            rows.append(served(priority, 1.0))
            limits.append(-rate)
            slack.append(KEEP * rate)
        for limit, row, offset in ((stage.cost_limit, replace(none, cost=1.0), in_cost),
                                   (stage.switching_limit, replace(none, switching=1.0),
                                    maker.idle)):
            if limit is not None:
                rows.append(row)
                limits.append(limit - offset)
                slack.append(KEEP * max(1.0, abs(limit)))
        return cls(maker, stage, weights, tuple(rows), np.array(limits), np.array(slack), constant)

    @property
    def scale(self) -> Floats:
        """Sizes (rows,) by which the rows of the program are divided."""
        return np.maximum(1.0, np.abs(self.limit))

    @property
    def size(self) -> float:
        """All that a level of service could serve; of cost, nothing, as every bit counts."""
        rates = zip(self.maker.instance.problem.demands, self.maker.rank, strict=True)
        return float(sum(d.rate_per_s * self.goal.served[rank] for d, rank in rates))

    def weights(self, prices: Floats) -> Weights:
        """The goal with each side row at its price."""
        rows = self.rows
        return Weights(
            self.goal.cost + sum(p * r.cost for p, r in zip(prices, rows, strict=True)),
            self.goal.switching + sum(p * r.switching for p, r in zip(prices, rows, strict=True)),
            self.goal.resources + sum(p * r.resources for p, r in zip(prices, rows, strict=True)),
            self.goal.served + sum(p * r.served for p, r in zip(prices, rows, strict=True)))

    def value(self, shares: Floats) -> float:
        """Value of the goal for a plan's shares (options,)."""
        return float(self.goal.scores(self.maker.from_shares(shares)).sum()) + self.constant

    def allows(self, columns: Columns) -> NDArray[np.bool_]:
        """Columns that serve all demands that must be served whole."""
        full = self.stage.full
        owners = self.maker.block_of_demand[full]
        return columns.serves(full, np.bincount(owners[owners >= 0],
                                                minlength=len(self.maker.blocks)))

    def program(self, columns: Columns) -> Arrays:
        """One column of each block, within the side rows; relaxed as it stands."""
        num_blocks = len(self.maker.blocks)
        rows = self.rows
        resources = np.array([r.resources for r in rows]).reshape(len(rows), columns.usage.shape[1])
        served = np.array([r.served for r in rows]).reshape(len(rows), columns.served.shape[1])
        side = (columns.usage @ resources.T - columns.served @ served.T
                + np.outer(columns.cost, [r.cost for r in rows])
                + np.outer(columns.switching, [r.switching for r in rows])) / self.scale
        where, row = np.nonzero(side)
        owner = np.concatenate([np.arange(len(columns)), where])
        order = np.argsort(owner, kind="stable")
        index = np.concatenate([columns.block, row + num_blocks])[order]
        value = np.concatenate([np.ones(len(columns)), side[where, row]])[order]
        starts = np.searchsorted(owner[order], np.arange(len(columns) + 1))
        ones = np.ones(num_blocks)
        return Arrays(
            np.zeros(len(columns)), np.ones(len(columns)), np.zeros(len(columns), dtype=bool),
            np.concatenate([ones, np.full(len(self.rows), -np.inf)]),
            np.concatenate([ones, (self.limit + self.slack) / self.scale]), starts.astype(np.int32),
            index.astype(np.int32), value, by_column=True)


def _least(values: Floats, block: Ints, num_blocks: int) -> Floats:
    """Least value (blocks,) among each block's columns."""
    least = np.full(num_blocks, np.inf)
    np.minimum.at(least, block, values)
    return least


def _places(block: Ints, values: Floats) -> Ints:
    """Place of each column in its block by value, first 0."""
    order = np.lexsort((values, block))
    first = np.searchsorted(block[order], block[order])
    places = np.empty(len(block), dtype=np.int64)
    places[order] = np.arange(len(block)) - first
    return places


def _rank(values: Floats) -> Ints:
    """Place of each value among all, first 0."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
