"""Records of each request of one replica, as input for the metrics."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from penstock.core.request import Request
from penstock.core.slo import ITL_MODES, Slo
from penstock.core.step import StepPlan
from penstock.core.units import PS_PER_S
from penstock.metrics.definitions import BoolColumn, FloatColumn, GapStatistics, IntColumn
from penstock.metrics.windows import token_list_statistics, window_statistics
from penstock.sim.int_rows import packed
from penstock.sim.step_log import StepLog
from penstock.sim.timeline import BusyBins, StepSamples, TurnLog


class Life:
    """A request between its first step and the flush after its end."""

    __slots__ = (
        "end_ps",
        "first_scheduled_ps",
        "first_token_ps",
        "group",
        "num_preemptions",
        "num_relegations",
        "pieces",
        "request",
        "start_turn",
        "token_ps",
        "tokens",
    )

    def __init__(self, request: Request, now_ps: int) -> None:
        self.request = request
        self.first_scheduled_ps = now_ps
        self.first_token_ps = -1
        self.token_ps = -1  # end of the step whose prompt chunk yielded a token, for this piece
        self.group = -1
        self.start_turn = 0
        self.tokens = 0  # of earlier pieces
        self.pieces: list[tuple[int, int, int, int]] | None = None
        self.num_preemptions = 0
        self.end_ps = -1  # after a token
        self.num_relegations = 0  # once it has ended


class Ended(NamedTuple):
    """Columns of requests that ended, in seconds; one entry per request."""

    request_id: IntColumn
    output_tokens: IntColumn
    first_scheduled_s: FloatColumn
    first_token_s: FloatColumn
    last_token_s: FloatColumn
    itl_mean_s: FloatColumn
    itl_p99_s: FloatColumn
    itl_max_s: FloatColumn
    num_late_tokens: IntColumn
    num_preemptions: IntColumn
    num_relegations: IntColumn
    lent: BoolColumn  # whether another replica goes on with it

    def take(self, rows: BoolColumn) -> "Ended":
        """Return the requests that the mask picks."""
        columns: list[Any] = [column[rows] for column in self]
        return Ended(*columns)


class Targets(NamedTuple):
    """Of each request: when its first token was due, its pace, and its mode's place in
    ITL_MODES."""

    due_s: FloatColumn
    itl_s: FloatColumn
    modes: IntColumn


_NONE = -1


class ReplicaRecorder:
    """Follows a replica's plans and records the times and the tokens of each request.

    Tokens are windows of turns: a piece is (first token's time or -1, group, first turn, number of
    turns). Nearly every request has one piece; preempted and benched ones have more. ``steps``
    gets every step and ``busy_bins`` the computing time over time, where they are set.
    """

    def __init__(self, sample_period_ps: int, busy_from_ps: int = 0) -> None:
        self.steps: StepLog | None = None
        self.busy_bins: BusyBins | None = None
        self.samples = StepSamples(sample_period_ps)
        self.busy_ps = 0  # computing time since ``busy_from_ps``
        self.unfinished: set[int] = set()  # cut off by the end of the run, since the last flush
        self._busy_from_ps = busy_from_ps
        self.last_end_ps = 0  # of the latest steps
        self.num_steps = 0
        self.cached_tokens = 0  # prompt tokens that requests found in the cache as they began
        self._log = TurnLog()
        self._live: dict[int, Life] = {}
        self._relegations: dict[int, int] = {}
        self._ended: list[Life] = []

    @property
    def num_ended(self) -> int:
        """Number of requests that ended since the last flush."""
        return len(self._ended)

    def has_begun(self, request_id: int) -> bool:
        """Whether a live request was in a step."""
        return request_id in self._live

    def has_token(self, request_id: int) -> bool:
        """Whether a live request has got its first token."""
        life = self._live.get(request_id)
        return life is not None and life.first_token_ps >= 0

    def scheduled_ps(self, request_id: int) -> int:
        """Return when the latest ended request of that number was in its first step."""
        at = len(self._ended) - 1
        while self._ended[at].request.request_id != request_id:
            at -= 1
        return self._ended[at].first_scheduled_ps

    def ended_since(self, count: int) -> list[tuple[Request, int, int, int]]:
        """Return requests that ended after the first ``count`` since the last flush: (request,
        tokens, first token, last token), times in picoseconds, -1 for none."""
        return [(life.request, life.tokens, life.first_token_ps, life.end_ps)
                for life in self._ended[count:]]

    def run(self, plan: StepPlan, num_steps: int, start_ps: int, duration_ps: int, growth_ps: int,
            end_ps: int, finished: tuple[int, ...], requests: Mapping[int, Request]) -> None:
        """``num_steps`` copies of a plan ran from ``start_ps`` to ``end_ps``."""
        self.busy_ps += max(0, end_ps - max(start_ps, self._busy_from_ps))
        self.last_end_ps = end_ps
        self.num_steps += num_steps
        if self.busy_bins is not None:
            self.busy_bins.add(start_ps, end_ps)
        if self.steps is not None and end_ps > start_ps:
            self.steps.add(plan.features, num_steps, start_ps, end_ps)
        live = self._live
        if plan.left or plan.preempted or plan.relegated:
            self._disturbed(plan)
        if plan.groups:
            self._log.extend(plan.groups, num_steps, start_ps, duration_ps, growth_ps)
        for chunk in plan.chunks:
            life = live.get(chunk.request_id)
            if life is None:
                life = live[chunk.request_id] = Life(requests[chunk.request_id], start_ps)
                self.cached_tokens += max(0, chunk.past - life.request.remote_tokens)
            if chunk.last:
                life.token_ps = end_ps
                if life.first_token_ps < 0:
                    life.first_token_ps = end_ps
        for request_id, group in plan.joined:
            self._open(request_id, group, plan.groups, num_steps)
        for request_id in finished:
            self.end(request_id, end_ps)

    def _open(self, request_id: int, group: int, ran: tuple[int, ...], num_steps: int) -> None:
        self._log.open(group)
        life = self._live.get(request_id)
        if life is None:
            return
        life.group = group
        life.start_turn = self._log.turns[group]
        if life.token_ps < 0 and group in ran:
            life.start_turn -= num_steps  # joined before the step: the step's turn is its own

    def _disturbed(self, plan: StepPlan) -> None:
        for request_id in plan.relegated:
            self._relegations[request_id] = self._relegations.get(request_id, 0) + 1
        for request_id in plan.left:
            if request_id in self._live:
                self._close(self._live[request_id])
        for request_id in plan.preempted:
            if request_id in self._live:
                self._live[request_id].num_preemptions += 1

    def _close(self, life: Life) -> None:
        if life.group < 0:
            return
        turns = self._log.turns[life.group] - life.start_turn
        piece = (life.token_ps, life.group, life.start_turn, turns)
        life.pieces = [piece] if life.pieces is None else [*life.pieces, piece]
        life.tokens += turns + (life.token_ps >= 0)
        life.group = -1
        life.token_ps = -1

    def end(self, request_id: int, now_ps: int) -> None:
        """A request finished, or was shed, at ``now_ps``."""
        life = self._live.pop(request_id, None)
        if life is None:
            return
        if life.pieces is not None:
            self._close(life)
        elif life.group >= 0:
            life.tokens = self._log.turns[life.group] - life.start_turn + 1
        elif life.token_ps >= 0:
            life.tokens = 1
        if life.tokens:
            life.end_ps = now_ps
        if self._relegations:
            life.num_relegations = self._relegations.pop(request_id, 0)
        self._ended.append(life)

    def drop(self, request_id: int) -> None:
        """Forget a live request, which begins again elsewhere."""
        self._live.pop(request_id, None)
        self._relegations.pop(request_id, None)

    def cut(self) -> None:
        """End the run. Live requests stay unfinished, with their tokens so far."""
        self.unfinished.update(self._live)
        for request_id in list(self._live):
            self.end(request_id, self.last_end_ps)

    def num_relegations(self, request_id: int) -> int:
        """Return the relegations of a request that never reached a step."""
        return self._relegations.pop(request_id, 0)

    def flush(self) -> Ended:
        """Return the requests that ended since the last flush, and forget their records."""
        ended = self._ended
        requests = [one.request for one in ended]
        ids = packed([one.request_id for one in requests])
        tokens = packed([one.tokens for one in ended])
        windows = np.stack([tokens, packed([one.group for one in ended]),
                            packed([one.start_turn for one in ended])], axis=1)
        first_s = _seconds([one.first_token_ps for one in ended])
        stats = self._statistics(windows, ids, first_s, targets(requests))
        found = Ended(ids, windows[:, 0], _seconds([one.first_scheduled_ps for one in ended]),
                      first_s, _seconds([one.end_ps for one in ended]), *stats,
                      packed([one.num_preemptions for one in ended]),
                      packed([one.num_relegations for one in ended]),
                      np.array([one.lends for one in requests], dtype=np.bool_))
        self._forget()
        return found

    def _statistics(self, rows: IntColumn, ids: IntColumn, first_s: FloatColumn,
                    of: Targets) -> GapStatistics:
        """Return the gaps of the requests of all rows: tokens, group (-1 for several pieces) and
        first turn."""
        due_s, itl_s, modes = of
        mean, p99, largest = (np.full(len(rows), np.nan) for _ in range(3))
        late = np.zeros(len(rows), dtype=np.int64)
        for group in np.unique(rows[:, 1]).tolist():
            chosen = np.flatnonzero(rows[:, 1] == group)
            if group == _NONE:
                chosen = chosen[rows[chosen, 0] > 0]
                tokens = [self._token_times(self._ended[row]) for row in chosen.tolist()]
                stats = token_list_statistics(tokens, due_s[chosen], itl_s[chosen], modes[chosen])
            else:
                base, ends_s = self._log.ends_s(group, int(rows[chosen, 2].min()))
                stats = window_statistics(ends_s, rows[chosen, 2] - base, first_s[chosen],
                                          rows[chosen, 0], due_s[chosen], itl_s[chosen],
                                          modes[chosen])
            mean[chosen], p99[chosen] = stats.itl_mean_s, stats.itl_p99_s
            largest[chosen], late[chosen] = stats.itl_max_s, stats.num_late_tokens
        return GapStatistics(mean, p99, largest, late)

    def _token_times(self, life: Life) -> FloatColumn:
        if life.pieces is None:
            return np.array([life.first_token_ps / PS_PER_S])
        parts: list[FloatColumn] = []
        for token_ps, group, start_turn, turns in life.pieces:
            if token_ps >= 0:
                parts.append(np.array([token_ps / PS_PER_S]))
            if turns:
                base, ends_s = self._log.ends_s(group, start_turn, turns)
                parts.append(ends_s[start_turn - base:start_turn - base + turns])
        return np.concatenate(parts) if parts else np.zeros(0)

    def _forget(self) -> None:
        self._ended = []
        self.unfinished = set()
        oldest = list(self._log.turns)
        for life in self._live.values():
            for piece in life.pieces or ():
                oldest[piece[1]] = min(oldest[piece[1]], piece[2])
            if life.group >= 0:
                oldest[life.group] = min(oldest[life.group], life.start_turn)
        self._log.forget_before(oldest)


def _seconds(times_ps: list[int]) -> FloatColumn:
    column_ps = packed(times_ps)
    return np.where(column_ps < 0, np.nan, column_ps / PS_PER_S)


def targets(requests: list[Request]) -> Targets:
    """Return per request: due time of the first token, pace, and its mode's place in ITL_MODES."""
    places: dict[int, int] = {}  # of each Slo among ``kinds``
    kinds: list[tuple[float, float, int]] = []
    kind: list[int] = []  # of each request
    for request in requests:
        slo = request.service_class.slo
        place = places.get(id(slo), -1)
        if place < 0:
            place = places[id(slo)] = len(kinds)
            kinds.append(_numbers(slo))
        kind.append(place)
    numbers = np.array(kinds, dtype=np.float64).reshape(-1, 3)[packed(kind)]
    arrival_s = np.fromiter([one.arrival_s for one in requests], np.float64, len(requests))
    return Targets(arrival_s + numbers[:, 0], numbers[:, 1], numbers[:, 2].astype(np.int64))


def _numbers(slo: Slo) -> tuple[float, float, int]:
    """Return the target of the first token, the pace, NaN for none, and the mode's place."""
    return (np.nan if slo.ttft_s is None else slo.ttft_s,
            np.nan if slo.itl_s is None else slo.itl_s, ITL_MODES.index(slo.itl))
