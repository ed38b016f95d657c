"""A whole plan near the relaxed plan, where blocks are too many or too large to list plans."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.plan.assign.columns import Columns, join, take
from penstock.plan.assign.instance import Floats
from penstock.plan.assign.master import Master, Relaxed, least_of, places_of, rank_of

# The factors by which the first integer program grows while it has no solution. Then passes that
# improve the best plan, where more than the share _WORTH of the level is at stake.
_WIDER = (1, 4)
_WORTH, _PASSES = 0.005, 8
# The open blocks of the first integer program, the columns of each, and the nodes.
_OPEN_BLOCKS, _OPEN_COLUMNS, _NODES = 300, 12, 500
# For demands that may be served in part: blocks, columns of each, and parts of an option.
_PART_BLOCKS, _OPEN_PARTS, _BETWEEN = 60, 80, 12


@dataclass(slots=True)
class Rounding:
    """Makes the relaxed plan of one level whole, to ``tolerance`` in units of the level."""

    master: Master
    relaxed: Relaxed
    tolerance: float
    ends_s: float

    def run(self, best: Floats) -> Floats | None:
        """Shares of a whole plan near the relaxed plan. Blocks with a clear choice keep it."""
        maker, relaxed = self.master.maker, self.relaxed
        taken, columns = relaxed.taken, relaxed.columns
        num_blocks = len(maker.blocks)
        split = least_of(-taken, columns.block, num_blocks) > -1.0 + 1e-6
        between = self._between(split)
        own = maker.from_shares(best)
        columns = join([columns, between, own])
        taken = np.concatenate([taken, np.zeros(len(between) + len(own))])
        is_own = np.arange(len(columns)) >= len(columns) - len(own)
        parts = np.zeros(num_blocks, dtype=bool)
        parts[between.block] = True
        scores = relaxed.weights.scores(columns)
        excess = scores - least_of(scores, columns.block, num_blocks)[columns.block]
        place = places_of(columns.block, excess)
        held = np.lexsort((-taken, columns.block))
        held = held[np.searchsorted(columns.block[held], np.arange(num_blocks))]
        second = np.full(num_blocks, np.inf)
        second[columns.block[place == 1]] = excess[place == 1]
        for factor in _WIDER:
            open_blocks = split | parts | (rank_of(second) < _OPEN_BLOCKS * factor)
            depth = np.where(parts, _OPEN_PARTS, _OPEN_COLUMNS)[columns.block]
            kept = open_blocks[columns.block] & ((place < depth) | (taken > 0.0) | is_own)
            kept[held] = True
            shares, _ = self.master.whole(take(columns, kept), self.tolerance, self.ends_s, _NODES)
            if shares is not None:
                return shares
        if self.master.value(best) - relaxed.bound > _WORTH * self.master.size:
            return self._improve(take(columns, ~is_own), best)
        return None

    def _improve(self, columns: Columns, best: Floats) -> Floats:
        """The best plan, improved part by part: in each pass the blocks that are worst off at the
        prices are open and all others are fixed. A pass never fails, because it starts from the
        best plan."""
        master, weights = self.master, self.relaxed.weights
        lowest = least_of(weights.scores(columns), columns.block, len(master.maker.blocks))
        near = places_of(columns.block, weights.scores(columns)) < _OPEN_COLUMNS
        for _ in range(_PASSES):
            own = master.maker.from_shares(best)
            open_blocks = rank_of(lowest - weights.scores(own)) < _OPEN_BLOCKS * _WIDER[-1]
            choices = join([take(columns, near & open_blocks[columns.block]), own])
            start = (np.arange(len(choices)) >= len(choices) - len(own)).astype(np.float64)
            shares, _ = master.whole(choices, self.tolerance, self.ends_s, _NODES, start)
            gain = 0.0 if shares is None else master.value(best) - master.value(shares)
            if shares is not None and gain > 0.0:
                best = shares
            if gain <= self.tolerance or time.perf_counter() > self.ends_s:
                break
        return best

    def _between(self, split: NDArray[np.bool_]) -> Columns:
        """Columns that serve a part of a demand, for the blocks that the relaxation splits and for
        those that it leaves out most narrowly. They use the resources that whole demands leave."""
        maker, relaxed, columns = self.master.maker, self.relaxed, self.relaxed.columns
        simple = np.array([block.kind != "general" for block in maker.blocks])
        simple &= ~self.master.stage.full[[block.demands[0] for block in maker.blocks]]
        short = columns.served.sum(axis=1) <= 0.0
        out = np.zeros(len(simple), dtype=bool)
        out[columns.block[short & (relaxed.taken > 0.5)]] = True
        served = np.where(short, np.inf, relaxed.excess(columns))
        near = rank_of(np.where(out & simple, least_of(served, columns.block, len(simple)),
                                np.inf)) < _PART_BLOCKS
        return maker.between(np.flatnonzero(simple & (split | (near & out))), _BETWEEN)
