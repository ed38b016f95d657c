"""Closing the gap: one small program over all block plans that a better whole plan may contain.

By duality, a whole plan that contains a column with some ``excess`` over the least of its block is
at least that much above the relaxation's bound. So take the best plan of all columns with at most a
given excess. Either it is the best plan there is, or every other plan is at least the bound plus
that excess: either way the bound rises. Baldacci, Christofides and Mingozzi (2008) list the routes
of vehicles in this way.
"""

import time
from dataclasses import dataclass, field

import numpy as np

from penstock.plan.assign.columns import Columns, join, take
from penstock.plan.assign.instance import Floats
from penstock.plan.assign.master import Master, Relaxed
from penstock.plan.assign.pricing import BlockPricer

# The first excess in units of ``tolerance`` (at least the share _UNIT of the level), and the
# largest factor by which it grows. _FEW columns are taken in the second round.
_FIRST, _UNIT, _GROWTH, _FEW = 4.0, 1e-4, 16, 2500
# The share of ``tolerance`` that the last excess leaves open, and the factor within which an excess
# counts as the last.
_SHARE, _ENOUGH = 0.95, 2.0
# If the last excess is more than _FAR times the first, the first round improves the plan, in _NODES
# nodes. Otherwise all effort goes into the bound.
_FAR, _NODES = 8.0, 200
# The most columns of one program, the most columns of demands that may be served in part (before
# any are left out), and the most blocks.
_COLUMNS, _PARTS, _BLOCKS = 20_000, 100_000, 1500


@dataclass(slots=True)
class Closing:
    """Closes the gap of one level to ``tolerance``, in units of the level."""

    master: Master
    relaxed: Relaxed
    tolerance: float
    ends_s: float
    _listed: Columns | None = field(init=False)
    _pricer: BlockPricer = field(init=False)

    def __post_init__(self) -> None:
        self._pricer = BlockPricer(self.master.maker.instance, self.master.maker,
                                   self.master.stage)
        self._listed = self._list()

    def run(self, best: Floats) -> tuple[Floats, float]:
        """A plan (options,), ``best`` or a better one, and a bound."""
        master, relaxed = self.master, self.relaxed
        value, bound = master.value(best), relaxed.bound
        size = max(abs(bound), master.size)
        excess, most = _FIRST * max(self.tolerance, _UNIT * size), _COLUMNS
        proof = False
        while not proof and value - bound > self.tolerance and time.perf_counter() < self.ends_s:
            last = value - relaxed.bound - _SHARE * self.tolerance
            search = most == _COLUMNS and last > _FAR * excess
            near, excess = self._nearest(last if excess * _ENOUGH > last else excess, most)
            if near is None:
                break
            proof = excess >= last
            own = master.maker.from_shares(best)
            start = np.zeros(len(near) + len(own))
            start[len(near):] = 1.0
            found, proven = master.whole(
                join([near, own]), _SHARE * self.tolerance, self.ends_s,
                _NODES if search else None, start, proof=not search)
            if found is not None and master.value(found) < value:
                best, value = found, master.value(found)
            bound = min(value, max(bound, min(proven, relaxed.bound + excess)))
            excess *= _GROWTH
            most = _FEW if most == _COLUMNS else most * _GROWTH
        return best, bound

    def _nearest(self, excess: float, most: int) -> tuple[Columns | None, float]:
        """All columns with at most this excess, or with a smaller excess that leaves about
        ``most``."""
        near = self._within(excess)
        if near is None or len(near) <= most:
            return near, excess
        each = self.relaxed.excess(near)
        excess = float(np.partition(each, most)[most])
        return take(near, each <= excess), excess

    def _list(self) -> Columns | None:
        """All columns of blocks that choose one pool or are idle; None if there are too many."""
        maker, stage = self.master.maker, self.master.stage
        if len(maker.blocks) > _BLOCKS or any(b.kind == "general" for b in maker.blocks):
            return None
        idle = self.master.idle
        choice = np.array([block.kind == "choice" for block in maker.blocks])
        table = self.relaxed.columns
        some = np.array([number for number in np.flatnonzero(choice & ~idle)
                         if not stage.full[maker.blocks[number].demands[0]]], dtype=np.int64)
        if maker.num_between(some) > _PARTS:
            return None
        table = take(table, (choice | idle)[table.block])
        return join([table, maker.between(some, _PARTS)]) if len(some) else table

    def _within(self, excess: float) -> Columns | None:
        """All columns with at most this excess; None if there are too many."""
        if self._listed is None:
            return None
        near = take(self._listed, self.relaxed.excess(self._listed) <= excess)
        tables, total = [near], len(near)
        for number, block in enumerate(self.master.maker.blocks):
            if block.kind != "cover" or self.master.idle[number]:
                continue
            found = self._pricer.covers_within(
                number, self.relaxed.weights, excess, _COLUMNS - total)
            if found is None or time.perf_counter() > self.ends_s:
                return None
            total += len(found)
            tables.append(found)
        columns = join(tables)
        return take(columns, self.relaxed.excess(columns) <= excess)
