"""One level over columns by block: the program that joins them, its prices, and whole plans."""

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.columns import ColumnMaker, Columns
from penstock.plan.assign.highs import Arrays, solve_program
from penstock.plan.assign.instance import Floats, Ints
from penstock.plan.assign.levels import Goal, Stage
from penstock.plan.assign.order import KEEP, fits
from penstock.plan.assign.pricing import Weights

# An absolute gap that is rounding.
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Relaxed:
    """Answer of the relaxed master over ``columns``: the amount ``taken`` of each, and Lagrange's
    ``bound`` at the prices of ``weights``, with which no plan of a block is worth less than
    ``least`` (blocks,)."""

    columns: Columns
    taken: Floats
    weights: Weights
    least: Floats
    bound: float

    def excess(self, columns: Columns) -> Floats:
        """By how much each column is above the least of its block: a plan that holds it is at
        least so much above ``bound``."""
        return np.asarray(self.weights.scores(columns) - self.least[columns.block])


@dataclass(frozen=True, slots=True)
class Master:
    """A goal and a stage in terms of columns: goal and side rows ``row <= limit``, all as weights.

    Programs may pass a limit by its ``slack``, for rounding; bounds hold for plans that do not. No
    demand asks for the blocks in ``idle`` (blocks,).
    """

    maker: ColumnMaker
    stage: Stage
    goal: Weights
    rows: tuple[Weights, ...]
    limit: Floats
    slack: Floats
    constant: float
    idle: NDArray[np.bool_]

    @classmethod
    def of(cls, maker: ColumnMaker, goal: Goal, stage: Stage) -> "Master":
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
        return cls(maker, stage, weights, tuple(rows), np.array(limits), np.array(slack), constant,
                   _idle(maker, goal, stage))

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
        """Columns that serve all demands that must be served whole, and none that is idle."""
        full = self.stage.full
        owners = self.maker.block_of_demand[full]
        whole = columns.serves(full, np.bincount(owners[owners >= 0],
                                                 minlength=len(self.maker.blocks)))
        return whole & ~(self.idle[columns.block] & columns.served.any(axis=1))

    def program(self, columns: Columns, *, integer: bool = False) -> Arrays:
        """One column of each block, within the side rows."""
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
            np.zeros(len(columns)), np.ones(len(columns)), np.full(len(columns), integer),
            np.concatenate([ones, np.full(len(self.rows), -np.inf)]),
            np.concatenate([ones, (self.limit + self.slack) / self.scale]), starts.astype(np.int32),
            index.astype(np.int32), value, by_column=True)

    def whole(self, columns: Columns, tolerance: float, ends_s: float,
              node_limit: int | None = None, start: Floats | None = None, *,
              proof: bool = False) -> tuple[Floats | None, float]:
        """Best plan of one of these columns for each block, within ``tolerance``, as shares
        (options,), and HiGHS's bound for it."""
        answer = solve_program(
            self.program(columns, integer=True), self.goal.scores(columns), start=start,
            absolute_gap=max(tolerance, _LEAST), node_limit=node_limit, proof=proof,
            time_limit_s=max(0.0, ends_s - time.perf_counter()))
        if answer.status == "infeasible" or answer.values is None:
            return None, -np.inf
        instance = self.maker.instance
        shares = columns.shares(np.flatnonzero(answer.values > 0.5), len(instance.option_demand))
        return (shares if fits(instance, shares) else None), answer.bound + self.constant


def _idle(maker: ColumnMaker, goal: Goal, stage: Stage) -> NDArray[np.bool_]:
    """Blocks of one demand whose service is not part of any level of service: best left out."""
    if goal.kind != "served":
        return np.zeros(len(maker.blocks), dtype=bool)
    asked = {goal.priority, *(priority for priority, _ in stage.kept)}
    demands = maker.instance.problem.demands
    return np.array([block.kind != "general" and not stage.full[block.demands[0]]
                     and demands[block.demands[0]].priority not in asked
                     for block in maker.blocks], dtype=bool)


def least_of(values: Floats, block: Ints, num_blocks: int) -> Floats:
    """Least value (blocks,) among each block's columns."""
    least = np.full(num_blocks, np.inf)
    np.minimum.at(least, block, values)
    return least


def places_of(block: Ints, values: Floats) -> Ints:
    """Place of each column in its block by value, first 0."""
    order = np.lexsort((values, block))
    first = np.searchsorted(block[order], block[order])
    places = np.empty(len(block), dtype=np.int64)
    places[order] = np.arange(len(block)) - first
    return places


def rank_of(values: Floats) -> Ints:
    """Place of each value among all, first 0."""
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
