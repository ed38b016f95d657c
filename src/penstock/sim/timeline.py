"""End times of a replica's decode turns, stored as runs of steps instead of tokens."""

from typing import ClassVar, Final

import numpy as np

from penstock.core.units import PS_PER_S
from penstock.metrics.definitions import FloatColumn
from penstock.sim.int_rows import IntRows


class TurnLog:
    """End times of one decode group's turns.

    A run is ``num`` turns whose durations grow by a constant, so five integers describe a run of
    any length: first turn, number, start, first duration and growth, in picoseconds. Memory
    therefore grows with scheduling events, not with tokens.
    """

    __slots__ = ("_runs", "turns")

    def __init__(self) -> None:
        self._runs = IntRows(5)
        self.turns = 0

    def extend(self, num: int, start_ps: int, duration_ps: int, growth_ps: int) -> None:
        """Append a run of ``num`` turns."""
        tail = self._runs.tail
        tail.append(self.turns)
        tail.append(num)
        tail.append(start_ps)
        tail.append(duration_ps)
        tail.append(growth_ps)
        self._runs.grown()
        self.turns += num

    def ends_s(self, first_turn: int, num_turns: int | None = None) -> tuple[int, FloatColumn]:
        """Return end times in seconds from the run that contains ``first_turn``, and that run's
        first turn.

        With ``num_turns``, later runs are not expanded.
        """
        runs = self._runs.table()
        if len(runs):
            runs = runs[max(0, int(np.searchsorted(runs[:, 0], first_turn, side="right")) - 1):]
        if num_turns is not None:
            runs = runs[:int(np.searchsorted(runs[:, 0], first_turn + num_turns, side="left"))]
        num = runs[:, 1]
        total = int(num.sum())
        base = int(runs[0, 0]) if len(runs) else first_turn
        k = np.arange(1, total + 1) - np.repeat(np.cumsum(num) - num, num)
        start, duration, growth = (np.repeat(runs[:, column], num) for column in (2, 3, 4))
        ends = (start + k * duration + k * (k - 1) // 2 * growth) / PS_PER_S
        return base, ends

    def forget_before(self, turn: int) -> None:
        """Drop runs that end before ``turn``."""
        runs = self._runs.table()
        self._runs.drop_first(int(np.searchsorted(runs[:, 0] + runs[:, 1], turn, side="right")))


BUSY_BIN_S: Final = 60.0
"""Time over which the busy share of a replica is taken, for the power that it draws."""


class BusyBins:
    """Computing time of a replica by bins of ``BUSY_BIN_S``."""

    __slots__ = ("_bins", "_width_ps")

    def __init__(self) -> None:
        self._bins: list[int] = []
        self._width_ps = round(BUSY_BIN_S * PS_PER_S)

    def add(self, start_ps: int, end_ps: int) -> None:
        """Add the time of steps that ran from ``start_ps`` to ``end_ps``."""
        bins, width_ps = self._bins, self._width_ps
        number = start_ps // width_ps
        while len(bins) * width_ps < end_ps:
            bins.append(0)
        while start_ps < end_ps:
            cut_ps = min(end_ps, (number + 1) * width_ps)
            bins[number] += cut_ps - start_ps
            start_ps = cut_ps
            number += 1

    def seconds(self, num_bins: int) -> FloatColumn:
        """Return the seconds of the first bins; those of later ones count in the last."""
        found = np.zeros(max(num_bins, len(self._bins)))
        found[:len(self._bins)] = np.array(self._bins, dtype=np.float64) / PS_PER_S
        found[num_bins - 1] += found[num_bins:].sum()
        return found[:num_bins]


class StepSamples:
    """A sampled record of a replica's steps for plots: all steps at first, then one per period."""

    __slots__ = ("_next_ps", "_num_rows", "_period_ps", "_rows", "every_step")

    WHOLE: ClassVar[int] = 4000
    COLUMNS: ClassVar[int] = 6

    def __init__(self, period_ps: int) -> None:
        self._period_ps = period_ps
        self._next_ps = 0
        self._rows = IntRows(self.COLUMNS)
        self._num_rows = 0
        self.every_step = True

    def due(self, end_ps: int) -> bool:
        """Return whether to record the step (or the run of steps) that ended at ``end_ps``."""
        if self._num_rows >= self.WHOLE:
            self.every_step = False
            if end_ps < self._next_ps:
                return False
            self._next_ps = end_ps + self._period_ps
        return True

    def add(self, end_ps: int, duration_ps: int, prefill_tokens: int, decode_seqs: int,
            num_waiting: int, kv_used_tokens: int) -> None:
        """Record a step (or the last of a run of steps) that is due."""
        tail = self._rows.tail
        tail.append(end_ps)
        tail.append(duration_ps)
        tail.append(prefill_tokens)
        tail.append(decode_seqs)
        tail.append(num_waiting)
        tail.append(kv_used_tokens)
        self._rows.grown()
        self._num_rows += 1

    def columns(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return one row per sample: end, duration (ps), prompt tokens, decodes, waiting, KV
        tokens."""
        return self._rows.table().copy()
