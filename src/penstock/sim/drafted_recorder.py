"""Records of requests under speculative decoding: a turn's accepted tokens leave together."""

from collections.abc import Mapping

import numpy as np

from penstock.core.request import Request
from penstock.core.step import StepPlan
from penstock.core.units import PS_PER_S
from penstock.metrics.definitions import FloatColumn, GapStatistics, IntColumn
from penstock.metrics.windows import ragged_statistics, token_list_statistics
from penstock.sim.drafts import TrueDrafts, segments
from penstock.sim.recorder import Life, ReplicaRecorder, Targets

_AT_ONCE = 1 << 20  # turns


class DraftedRecorder(ReplicaRecorder):
    """A recorder whose turns give as many tokens as ``drafts`` says.

    Rows count turns until they are flushed. Only then are tokens counted, for all rows at once.
    """

    def __init__(self, sample_period_ps: int, busy_from_ps: int, drafts: TrueDrafts) -> None:
        super().__init__(sample_period_ps, busy_from_ps)
        self._drafts = drafts
        self._depth_from: list[list[int]] = []  # of each group: turns from which a depth holds
        self._depths: list[list[int]] = []

    def run(self, plan: StepPlan, num_steps: int, start_ps: int, duration_ps: int, growth_ps: int,
            end_ps: int, finished: tuple[int, ...], requests: Mapping[int, Request]) -> None:
        """``num_steps`` copies of a plan ran from ``start_ps`` to ``end_ps``."""
        assert plan.drafted is not None
        for group in plan.groups:
            self._log.open(group)
            turn = self._log.turns[group]
            while len(self._depths) <= group:
                self._depths.append([])
                self._depth_from.append([])
            if not self._depths[group] or self._depths[group][-1] != plan.drafted.depth:
                self._depths[group].append(plan.drafted.depth)
                self._depth_from[group].append(turn)
        super().run(plan, num_steps, start_ps, duration_ps, growth_ps, end_ps, finished, requests)

    def ended_since(self, count: int) -> list[tuple[Request, int, int, int]]:
        """Return requests that finished; see ``ReplicaRecorder.ended_since``."""
        found = super().ended_since(count)
        tokens = self._drafts.output_tokens(np.array([one[0].request_id for one in found],
                                                     dtype=np.int64)).tolist()
        return [(request, num, first_ps, last_ps)
                for (request, _, first_ps, last_ps), num in zip(found, tokens, strict=True)]

    def _depths_of(self, group: int, turns: IntColumn) -> IntColumn:
        """Return the depth of turns of a group."""
        depths = np.array(self._depths[group], dtype=np.int64)
        at = np.searchsorted(np.array(self._depth_from[group]), turns, side="right") - 1
        return np.asarray(depths[at], dtype=np.int64)

    def _statistics(self, rows: IntColumn, ids: IntColumn, first_s: FloatColumn,
                    of: Targets) -> GapStatistics:
        mean, p99, largest = (np.full(len(rows), np.nan) for _ in range(3))
        found = GapStatistics(mean, p99, largest, np.zeros(len(rows), dtype=np.int64))
        for group in np.unique(rows[:, 1]).tolist():
            chosen = np.flatnonzero(rows[:, 1] == group)
            if group < 0:
                chosen = chosen[rows[chosen, 0] > 0]
                times = [self._token_times(self._ended[row]) for row in chosen.tolist()]
                rows[chosen, 0] = [len(tokens) for tokens in times]
                _store(found, chosen, token_list_statistics(
                    times, of.due_s[chosen], of.itl_s[chosen], of.modes[chosen]))
                continue
            ends = np.cumsum(rows[chosen, 0])
            for some in np.split(chosen, np.searchsorted(
                    ends, np.arange(_AT_ONCE, int(ends[-1]), _AT_ONCE))):
                if len(some):
                    _store(found, some, self._of_group(group, some, rows, ids, first_s, of))
        return found

    def _of_group(self, group: int, chosen: IntColumn, rows: IntColumn, ids: IntColumn,
                  first_s: FloatColumn, of: Targets) -> GapStatistics:
        """Return the gaps of requests of one group, and count their tokens in ``rows``."""
        turns, start = rows[chosen, 0] - 1, rows[chosen, 2]
        row, place = segments(turns)
        at = start[row] + place
        given = self._given(group, ids[chosen], np.zeros_like(turns), turns, at)
        after = self._drafts.output_tokens(ids[chosen]) - 1
        given = _cut(given, turns, after)
        later = np.bincount(row, weights=given, minlength=len(chosen)).astype(np.int64)
        rows[chosen, 0] = later + 1
        base, ends_s = self._log.ends_s(group, int(start.min()))
        return ragged_statistics(first_s[chosen], np.repeat(ends_s[at - base], given), later + 1,
                                 of.due_s[chosen], of.itl_s[chosen], of.modes[chosen])

    def _given(self, group: int, ids: IntColumn, done: IntColumn, num_turns: IntColumn,
               at: IntColumn) -> IntColumn:
        depths = self._depths_of(group, at) if len(at) else None
        return self._drafts.given(ids, done, num_turns, depths)

    def _token_times(self, life: Life) -> FloatColumn:
        if life.pieces is None:
            return np.array([life.first_token_ps / PS_PER_S])
        request_id = np.array([life.request.request_id])
        parts: list[FloatColumn] = []
        done = 0
        for token_ps, group, start_turn, turns in life.pieces:
            if token_ps >= 0:
                parts.append(np.array([token_ps / PS_PER_S]))
            if turns:
                at = np.arange(start_turn, start_turn + turns)
                given = self._given(group, request_id, np.array([done]), np.array([turns]), at)
                base, ends_s = self._log.ends_s(group, start_turn, turns)
                parts.append(np.repeat(ends_s[at - base], given))
                done += turns
        times = np.concatenate(parts) if parts else np.zeros(0)
        return times[:int(self._drafts.output_tokens(request_id)[0])]


def _cut(given: IntColumn, turns: IntColumn, most: IntColumn) -> IntColumn:
    """Cut the tokens of ragged turns to ``most`` of each request: the last turn may have more."""
    row, _ = segments(turns)
    before = np.cumsum(given) - given
    first = np.zeros(len(turns), np.int64)
    known = turns > 0
    first[known] = before[(np.cumsum(turns) - turns)[known]]
    return np.clip(most[row] - (before - first[row]), 0, given)


def _store(found: GapStatistics, chosen: IntColumn, stats: GapStatistics) -> None:
    for column, values in zip(found, stats, strict=True):
        column[chosen] = values
