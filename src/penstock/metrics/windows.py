"""Gap statistics of many requests without storing their tokens.

A replica computes at most one token per request and decode turn, so a request's tokens after the
first are a window of the turns' end times. Requests with equally many tokens form a matrix of such
windows; the definitions then work on whole matrices.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from penstock.core.slo import ITL_MODES
from penstock.metrics.definitions import (
    FloatColumn,
    GapStatistics,
    IntColumn,
    gap_statistics,
)

# Small enough that a block and its temporaries stay in a core's cache.
BLOCK_TOKENS = 1 << 17


def window_statistics(turn_end_s: FloatColumn, first_turn: IntColumn, first_token_s: FloatColumn,
                      num_tokens: IntColumn, due_first_s: FloatColumn, itl_s: FloatColumn,
                      modes: IntColumn) -> GapStatistics:
    """Return statistics of requests whose tokens came without a pause, one value per request.

    The first token came at ``first_token_s``, the others at the ends of turns ``first_turn`` to
    ``first_turn + num_tokens - 2``. ``due_first_s`` is when the first token was due (NaN: when it
    came), ``itl_s`` the pace target (NaN: none), ``modes`` the places in ITL_MODES of how it
    binds.
    """
    order = np.lexsort((modes, num_tokens))
    turn, first, tokens = first_turn[order], first_token_s[order], num_tokens[order]
    due, pace, mode = due_first_s[order], itl_s[order], modes[order]
    due = np.where(np.isnan(due), first, due)
    result = _empty(len(order))
    if len(order) == 0:
        return result
    # One view serves every length; the padding is never read as a token.
    width = max(int(tokens[-1]), 1)
    windows = sliding_window_view(np.concatenate((turn_end_s, np.zeros(width))), width)
    for rows in _blocks(tokens, mode):
        num = int(tokens[rows.start])
        token_s = np.empty((rows.stop - rows.start, num))
        token_s[:, 0] = first[rows]
        token_s[:, 1:] = windows[turn[rows], :num - 1]
        _store(result, rows, gap_statistics(token_s, due[rows], pace[rows],
                                            ITL_MODES[mode[rows.start]]))
    return _unsorted(result, order)


def token_list_statistics(token_s: Sequence[FloatColumn], due_first_s: FloatColumn,
                          itl_s: FloatColumn, modes: IntColumn) -> GapStatistics:
    """Return statistics of the few requests that paused, from the times of all their tokens."""
    result = _empty(len(token_s))
    for row, times_s in enumerate(token_s):
        if len(times_s):
            rows = slice(row, row + 1)
            due = np.where(np.isnan(due_first_s[rows]), times_s[:1], due_first_s[rows])
            _store(result, rows, gap_statistics(times_s[None, :], due, itl_s[rows],
                                                ITL_MODES[modes[row]]))
    return result


def ragged_statistics(first_token_s: FloatColumn, later_token_s: FloatColumn,
                      num_tokens: IntColumn, due_first_s: FloatColumn, itl_s: FloatColumn,
                      modes: IntColumn) -> GapStatistics:
    """Return statistics of requests whose later tokens lie one request after another in
    ``later_token_s``: ``num_tokens`` - 1 of each. Each has a first token."""
    order = np.lexsort((modes, num_tokens))
    start = (np.cumsum(num_tokens - 1) - (num_tokens - 1))[order]
    first, tokens, mode = first_token_s[order], num_tokens[order], modes[order]
    due = np.where(np.isnan(due_first_s), first_token_s, due_first_s)[order]
    result = _empty(len(order))
    for rows in _blocks(tokens, mode):
        num = int(tokens[rows.start])
        token_s = np.empty((rows.stop - rows.start, num))
        token_s[:, 0] = first[rows]
        token_s[:, 1:] = later_token_s[start[rows][:, None] + np.arange(num - 1)]
        _store(result, rows, gap_statistics(token_s, due[rows], itl_s[order][rows],
                                            ITL_MODES[mode[rows.start]]))
    return _unsorted(result, order) if len(order) else result


def _empty(num_requests: int) -> GapStatistics:
    mean, p99, largest = (np.full(num_requests, np.nan) for _ in range(3))
    return GapStatistics(mean, p99, largest, np.zeros(num_requests, dtype=np.int64))


def _store(result: GapStatistics, rows: slice, block: GapStatistics) -> None:
    for column, values in zip(result, block, strict=True):
        column[rows] = values


def _unsorted(result: GapStatistics, order: IntColumn) -> GapStatistics:
    """Return rows in the caller's order."""
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return GapStatistics(result.itl_mean_s[inverse], result.itl_p99_s[inverse],
                         result.itl_max_s[inverse], result.num_late_tokens[inverse])


def _blocks(num_tokens: IntColumn, modes: IntColumn) -> Iterator[slice]:
    """Yield runs of sorted rows with equal token count and mode, at most BLOCK_TOKENS each."""
    if not len(num_tokens):
        return
    changes = np.flatnonzero((np.diff(num_tokens) != 0) | (np.diff(modes) != 0)) + 1
    starts = [0, *changes.tolist(), len(num_tokens)]
    for start, end in pairwise(starts):
        tokens = int(num_tokens[start])
        if tokens == 0:
            continue
        height = max(1, BLOCK_TOKENS // tokens)
        for row in range(start, end, height):
            yield slice(row, min(row + height, end))
