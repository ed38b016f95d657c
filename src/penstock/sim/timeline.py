"""End times of a replica's decode turns, stored as runs of steps instead of tokens."""

from typing import Final

import numpy as np

from penstock.core.units import PS_PER_S
from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.sim.int_rows import IntRows


class TurnLog:
    """End times of the turns of a replica's decode groups.

    A run is a number of steps whose durations grow by a constant, a turn each for the groups that
    run. So five integers describe a run of any length: number, start, first duration and growth, in
    picoseconds, and which groups ran. Memory therefore grows with scheduling events, not with
    tokens. ``turns`` has the turns of each group so far.
    """

    __slots__ = ("_forgotten", "_groups", "_of_group", "_runs", "turns")

    def __init__(self) -> None:
        self.turns: list[int] = []
        self._runs = IntRows(5)
        self._groups: dict[tuple[int, ...], int] = {}  # that ran together -> their number
        self._forgotten: list[int] = []  # turns of each group
        self._of_group: dict[int, tuple[IntColumn, IntColumn]] = {}  # known since the latest run

    def open(self, group: int) -> None:
        """Make room for a group."""
        while len(self.turns) <= group:
            self.turns.append(0)
            self._forgotten.append(0)

    def extend(self, groups: tuple[int, ...], num: int, start_ps: int, duration_ps: int,
               growth_ps: int) -> None:
        """Append a run of ``num`` turns of these groups."""
        number = self._groups.get(groups, -1)
        if number < 0:
            number = self._groups[groups] = len(self._groups)
            self.open(max(groups))
        self._runs.add((num, start_ps, duration_ps, growth_ps, number))
        turns = self.turns
        for group in groups:
            turns[group] = turns[group] + num  # in native code faster than +=
        if self._of_group:
            self._of_group = {}

    def _runs_of(self, group: int) -> tuple[IntColumn, IntColumn]:
        """Return the places of a group's runs among all, and the first turn of each, with the next
        turn at the end."""
        found = self._of_group.get(group)
        if found is None:
            runs = self._runs.table()
            its = np.array([group in groups for groups in self._groups], dtype=np.bool_)
            places = np.flatnonzero(its[runs[:, 4]]) if len(runs) else np.zeros(0, dtype=np.int64)
            turns = np.zeros(len(places) + 1, dtype=np.int64)
            np.cumsum(runs[places, 0], out=turns[1:])
            found = self._of_group[group] = places, turns + self._forgotten[group]
        return found

    def ends_s(self, group: int, first_turn: int,
               num_turns: int | None = None) -> tuple[int, FloatColumn]:
        """Return end times in seconds of a group's turns, from the run that contains
        ``first_turn``, and that run's first turn.

        With ``num_turns``, later runs are not expanded.
        """
        places, turns = self._runs_of(group)
        low = max(0, int(np.searchsorted(turns[:-1], first_turn, side="right")) - 1)
        high = len(places) if num_turns is None else int(
            np.searchsorted(turns[:-1], first_turn + num_turns, side="left"))
        runs = self._runs.table()[places[low:high]]
        num = runs[:, 0]
        k = np.arange(1, int(num.sum()) + 1) - np.repeat(np.cumsum(num) - num, num)
        start, duration, growth = (np.repeat(runs[:, column], num) for column in (1, 2, 3))
        ends = (start + k * duration + k * (k - 1) // 2 * growth) / PS_PER_S
        return int(turns[low]), ends

    def forget_before(self, turns: list[int]) -> None:
        """Drop the first runs, as far as they end before the turn of each group."""
        num = len(self._runs.table())
        for group, turn in enumerate(turns):
            places, firsts = self._runs_of(group)
            kept = int(np.searchsorted(firsts[1:], turn, side="right"))
            if kept < len(places):
                num = min(num, int(places[kept]))
        for group in range(len(turns)):
            places, firsts = self._runs_of(group)
            self._forgotten[group] = int(firsts[np.searchsorted(places, num)])
        self._of_group = {}
        self._runs.drop_first(num)


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

    WHOLE: Final = 4000
    COLUMNS: Final = 6

    def __init__(self, period_ps: int) -> None:
        self._period_ps = period_ps
        self._next_ps = 0
        self._rows = IntRows(StepSamples.COLUMNS)
        self._num_rows = 0
        self.every_step = True

    def due(self, end_ps: int) -> bool:
        """Return whether to record the step (or the run of steps) that ended at ``end_ps``."""
        if self._num_rows >= StepSamples.WHOLE:
            self.every_step = False
            if end_ps < self._next_ps:
                return False
            self._next_ps = end_ps + self._period_ps
        return True

    def add(self, end_ps: int, duration_ps: int, prefill_tokens: int, decode_seqs: int,
            num_waiting: int, kv_used_tokens: int) -> None:
        """Record a step (or the last of a run of steps) that is due."""
        self._rows.add((end_ps, duration_ps, prefill_tokens, decode_seqs, num_waiting,
                        kv_used_tokens))
        self._num_rows += 1

    def columns(self) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """Return one row per sample: end, duration (ps), prompt tokens, decodes, waiting, KV
        tokens."""
        return self._rows.table().copy()
