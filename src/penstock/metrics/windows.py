"""Gap statistics of many requests without storing their tokens.

A replica computes at most one token per request and decode turn, so a request's tokens after the
first are a window of the turns' end times. All windows share the gaps between turns: a window's
largest gap is the maximum of a range of these, and its number of late gaps a difference of two
running counts. Only percentiles below the maximum, and paced requests that may have late tokens,
need the gaps of each window.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from penstock.core.slo import ITL_MODES
from penstock.metrics.definitions import (
    TOLERANCE_S,
    BoolColumn,
    FloatColumn,
    GapStatistics,
    IntColumn,
    gaps_s,
    late_by_mean,
)

# Small enough that a block and its temporaries stay in a core's cache.
BLOCK_TOKENS = 1 << 17
_ROUNDING_S: Final = 1e-6
"""More than rounding changes in sums of times. Closer comparisons are made token by token."""
_PACED, _STRICT, _MEAN = (ITL_MODES.index(mode) for mode in ("paced", "strict", "mean"))


def window_statistics(turn_end_s: FloatColumn, first_turn: IntColumn, first_token_s: FloatColumn,
                      num_tokens: IntColumn, due_first_s: FloatColumn, itl_s: FloatColumn,
                      modes: IntColumn) -> GapStatistics:
    """Return statistics of requests whose tokens came without a pause, one value per request.

    The first token came at ``first_token_s``, the others at the ends of turns ``first_turn`` to
    ``first_turn + num_tokens - 2``. ``due_first_s`` is when the first token was due (NaN: when it
    came), ``itl_s`` the pace target (NaN: none), ``modes`` the places in ITL_MODES of how it
    binds.
    """
    windows = _Windows(turn_end_s, first_turn, first_token_s, num_tokens)
    due_s = np.where(np.isnan(due_first_s), first_token_s, due_first_s)
    mean, p99, largest = (np.full(len(num_tokens), np.nan) for _ in range(3))
    rows = np.flatnonzero(num_tokens > 1)
    mean[rows] = (windows.last_s(rows) - first_token_s[rows]) / (num_tokens[rows] - 1)
    p99[rows] = largest[rows] = windows.largest_gaps_s(rows)
    # Up to 99 gaps the nearest rank of the 99th percentile is the largest.
    rows = np.flatnonzero(num_tokens > 100)
    p99[rows] = windows.p99_gaps_s(rows)
    return GapStatistics(mean, p99, largest, _late(windows, due_s, itl_s, modes))


def token_list_statistics(token_s: Sequence[FloatColumn], due_first_s: FloatColumn,
                          itl_s: FloatColumn, modes: IntColumn) -> GapStatistics:
    """Return statistics of the few requests that paused, from the times of all their tokens."""
    some = [times_s for times_s in token_s if len(times_s)]
    num = np.array([len(times_s) for times_s in token_s], dtype=np.int64)
    first_s = np.full(len(num), np.nan)
    first_s[num > 0] = [times_s[0] for times_s in some]
    later_s = np.concatenate([np.zeros(0), *(times_s[1:] for times_s in some)])
    return ragged_statistics(first_s, later_s, num, due_first_s, itl_s, modes)


def ragged_statistics(first_token_s: FloatColumn, later_token_s: FloatColumn,
                      num_tokens: IntColumn, due_first_s: FloatColumn, itl_s: FloatColumn,
                      modes: IntColumn) -> GapStatistics:
    """Return statistics of requests whose later tokens lie one request after another in
    ``later_token_s``: ``num_tokens`` - 1 of each that has a token."""
    later = np.maximum(num_tokens - 1, 0)
    return window_statistics(later_token_s, np.cumsum(later) - later, first_token_s, num_tokens,
                             due_first_s, itl_s, modes)


class _Windows:
    """Token times of requests as windows of the turns' ends. Columns are by request, ``gaps_s[t]``
    is the gap before turn ``t``."""

    def __init__(self, turn_end_s: FloatColumn, first_turn: IntColumn, first_token_s: FloatColumn,
                 num_tokens: IntColumn) -> None:
        self.turn_end_s = turn_end_s
        self.first = first_turn
        self.first_token_s = first_token_s
        self.num_tokens = num_tokens
        self.stop = first_turn + np.maximum(num_tokens - 1, 0)
        self.gaps_s = np.diff(turn_end_s, prepend=turn_end_s[:1])

    def last_s(self, rows: IntColumn) -> FloatColumn:
        """Return the last token's time of requests with two tokens or more."""
        return self.turn_end_s[self.stop[rows] - 1]

    def first_gaps_s(self, rows: IntColumn) -> FloatColumn:
        """Return the gaps between the first two tokens of such requests."""
        return self.turn_end_s[self.first[rows]] - self.first_token_s[rows]

    def largest_gaps_s(self, rows: IntColumn) -> FloatColumn:
        """Return the largest gap of such requests."""
        found = self.first_gaps_s(rows)
        more = np.flatnonzero(self.num_tokens[rows] > 2)
        later = rows[more]
        found[more] = np.maximum(found[more], range_maxima(
            self.gaps_s, self.first[later] + 1, self.stop[later]))
        return found

    def p99_gaps_s(self, rows: IntColumn) -> FloatColumn:
        """Return the 99th percentile of the gaps of requests with 100 gaps or more."""
        found = np.empty(len(rows))
        num_gaps = self.num_tokens[rows] - 1
        above = num_gaps // 100  # gaps that may exceed the percentile
        widest = int(num_gaps.max(initial=1))
        windows = sliding_window_view(np.concatenate((self.gaps_s, np.zeros(widest))), widest)
        for order in _alike(above, num_gaps):
            some, num = rows[order], num_gaps[order]
            least, width = int(num.min()), int(num.max())
            gaps = windows[:, :width][self.first[some]]
            gaps[:, 0] = self.first_gaps_s(some)
            gaps[:, least:][np.arange(least, width) >= num[:, None]] = -np.inf
            rank = width - 1 - int(above[order[0]])
            gaps.partition(rank, axis=1)
            found[order] = gaps[:, rank]
        return found

    def tokens_s(self, row: int) -> FloatColumn:
        """Return all token times of one request that has some."""
        later = self.turn_end_s[self.first[row]:self.stop[row]]
        return np.concatenate((self.first_token_s[row:row + 1], later))


def range_maxima(values: FloatColumn, start: IntColumn, stop: IntColumn) -> FloatColumn:
    """Return the maximum of ``values[start:stop]`` for each pair; no range is empty.

    A range of 2^k to 2^(k+1) - 1 values is covered by two ranges of 2^k (a sparse table, of which
    only one row is held).
    """
    found = np.empty(len(start))
    level = np.frexp((stop - start).astype(np.float64))[1] - 1
    maxima, width = values, 1
    for number in range(int(level.max(initial=-1)) + 1):
        rows = np.flatnonzero(level == number)
        found[rows] = np.maximum(maxima[start[rows]], maxima[stop[rows] - width])
        maxima = np.maximum(maxima[:-width], maxima[width:])
        width *= 2
    return found


def _alike(kind: IntColumn, size: IntColumn) -> Iterator[IntColumn]:
    """Yield rows of one kind each, of at most BLOCK_TOKENS together."""
    order = np.lexsort((size, kind))
    for rows in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        height = max(1, BLOCK_TOKENS // int(size[rows].max(initial=1)))
        for start in range(0, len(rows), height):
            yield rows[start:start + height]


def _late(windows: _Windows, due_s: FloatColumn, itl_s: FloatColumn, modes: IntColumn) -> IntColumn:
    """Return the number of late tokens or gaps of each request."""
    late = np.zeros(len(modes), dtype=np.int64)
    known = (windows.num_tokens > 0) & ~np.isnan(itl_s)
    for pace_s in np.unique(itl_s[known]).tolist():
        same = known & (itl_s == pace_s)
        rows = np.flatnonzero(same & (modes == _STRICT) & (windows.num_tokens > 1))
        late[rows] = _late_gaps(windows, rows, pace_s)
        rows = np.flatnonzero(same & (modes == _PACED))
        rows = rows[_maybe_late(windows, rows, due_s[rows], pace_s)]
        late[rows] = _late_tokens(windows, rows, due_s[rows], pace_s)
        rows = np.flatnonzero(same & (modes == _MEAN) & (windows.num_tokens > 1))
        late[rows] = _late_means(windows, rows, pace_s)
    return late


def _late_gaps(windows: _Windows, rows: IntColumn, pace_s: float) -> IntColumn:
    """Return the number of each request's gaps above the pace."""
    limit_s = pace_s + TOLERANCE_S
    before = np.zeros(len(windows.gaps_s) + 1, dtype=np.int64)
    np.cumsum(windows.gaps_s > limit_s, out=before[1:])
    found: IntColumn = before[windows.stop[rows]] - before[windows.first[rows] + 1]
    found += windows.first_gaps_s(rows) > limit_s
    return found


def _maybe_late(windows: _Windows, rows: IntColumn, due_s: FloatColumn, pace_s: float
                ) -> BoolColumn:
    """Whether each paced request may have a late token."""
    late = windows.first_token_s[rows] > due_s + TOLERANCE_S
    more = np.flatnonzero(windows.num_tokens[rows] > 1)
    first, stop = windows.first[rows[more]], windows.stop[rows[more]]
    # Token t - first + 1 is due at due_s + (t - first + 1) * pace_s.
    ahead_s = windows.turn_end_s - pace_s * np.arange(len(windows.turn_end_s))
    late[more] |= (range_maxima(ahead_s, first, stop)
                   > due_s[more] - pace_s * (first - 1) - _ROUNDING_S)
    return late


def _late_tokens(windows: _Windows, rows: IntColumn, due_s: FloatColumn, pace_s: float
                 ) -> IntColumn:
    """Return the number of each paced request's late tokens."""
    due_s = due_s + TOLERANCE_S
    found = (windows.first_token_s[rows] > due_s).astype(np.int64)
    later = np.maximum(windows.num_tokens[rows] - 1, 0)
    for some in _alike(np.zeros(len(rows), np.int64), later):
        row = np.repeat(some, later[some])
        place = np.arange(len(row)) - np.repeat(np.cumsum(later[some]) - later[some], later[some])
        token_s = windows.turn_end_s[windows.first[rows[row]] + place]
        late = token_s > pace_s * (place + 1.0) + due_s[row]
        found += np.bincount(row[late], minlength=len(rows))
    return found


def _late_means(windows: _Windows, rows: IntColumn, pace_s: float) -> IntColumn:
    """Return the number of gaps of each request whose mean gap is above the pace, 0 for others."""
    num_gaps = windows.num_tokens[rows] - 1
    over_s = windows.last_s(rows) - windows.first_token_s[rows] - (pace_s * num_gaps + TOLERANCE_S)
    late = over_s > 0
    for place in np.flatnonzero(np.abs(over_s) < _ROUNDING_S).tolist():
        gaps = gaps_s(windows.tokens_s(int(rows[place]))[None, :])
        late[place] = late_by_mean(gaps, np.array([pace_s]))[0, 0]
    return np.where(late, num_gaps, 0)
