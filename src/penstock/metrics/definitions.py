"""The definitions of latencies from timestamps.

Every function takes whole columns, one value per request, in seconds. A time that never happened is
NaN, and so is every latency that depends on it. ``docs/reference/metrics.md`` has the same
definitions in prose.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.slo import ItlMode, Slo

FloatColumn: TypeAlias = NDArray[np.float64]
IntColumn: TypeAlias = NDArray[np.int64]
BoolColumn: TypeAlias = NDArray[np.bool_]

# Clocks are sums of floats: a token is late only when it is late by more than rounding.
TOLERANCE_S = 1e-9


def ttft_s(arrival_s: FloatColumn, first_token_s: FloatColumn) -> FloatColumn:
    """Time to first token."""
    return first_token_s - arrival_s


def e2e_s(arrival_s: FloatColumn, last_token_s: FloatColumn) -> FloatColumn:
    """Time from arrival to the last token (also called TTLT)."""
    return last_token_s - arrival_s


def queue_s(arrival_s: FloatColumn, first_scheduled_s: FloatColumn) -> FloatColumn:
    """Time from arrival to the start of the first step that computed anything of the request."""
    return first_scheduled_s - arrival_s


def tpot_s(first_token_s: FloatColumn, last_token_s: FloatColumn,
           num_tokens: IntColumn) -> FloatColumn:
    """Mean time per output token after the first; NaN below two tokens, where there is no gap."""
    num_gaps = np.where(num_tokens > 1, num_tokens - 1, np.nan)
    return (last_token_s - first_token_s) / num_gaps


def gaps_s(token_s: FloatColumn) -> FloatColumn:
    """Inter-token latencies: gaps between consecutive tokens along the last axis."""
    return token_s[..., 1:] - token_s[..., :-1]


def itl_p99_s(gaps: FloatColumn) -> FloatColumn:
    """99th percentile by nearest rank along the last axis; NaN when there is no gap.

    A bound holds for this value if and only if at most ``num_gaps // 100`` gaps exceed it, which
    is what a percentile target counts; interpolation would break that equivalence.
    """
    num_gaps = gaps.shape[-1]
    if num_gaps == 0:
        return np.full(gaps.shape[:-1], np.nan)
    rank = num_gaps - 1 - num_gaps // 100
    if rank == num_gaps - 1:
        return np.asarray(gaps.max(axis=-1))
    return np.asarray(np.partition(gaps, rank, axis=-1)[..., rank])


def first_due_s(slo: Slo, arrival_s: FloatColumn, first_token_s: FloatColumn) -> FloatColumn:
    """Return when the paced schedule of each request begins.

    That is arrival + ``ttft_s``. A class without a first-token target has no other anchor than the
    first token itself, which is then never late.
    """
    return first_token_s if slo.ttft_s is None else arrival_s + slo.ttft_s


def late_by_pace(token_s: FloatColumn, due_first_s: FloatColumn,
                 itl_s: FloatColumn) -> BoolColumn:
    """Return a mask of the tokens that came late: token n is due at ``due_first_s + n * itl_s``.

    ``token_s`` has shape (requests, tokens), the others (requests,). Early tokens bank slack.
    """
    due_s = itl_s[:, None] * np.arange(token_s.shape[-1], dtype=np.float64)
    due_s += (due_first_s + TOLERANCE_S)[:, None]
    return token_s > due_s


def late_by_gap(gaps: FloatColumn, itl_s: FloatColumn) -> BoolColumn:
    """Return a mask of the gaps above ``itl_s``; shapes (requests, gaps) and (requests,).

    No slack is banked.
    """
    return gaps > (itl_s + TOLERANCE_S)[:, None]


def late_by_mean(gaps: FloatColumn, itl_s: FloatColumn) -> BoolColumn:
    """Return a mask of all gaps of the requests whose mean gap is above ``itl_s``; shapes as of
    ``late_by_gap``."""
    late = late_by_gap(gaps.sum(axis=-1, keepdims=True), itl_s * gaps.shape[-1])
    return np.broadcast_to(late, gaps.shape)


def within(latency_s: FloatColumn, target_s: float | None) -> BoolColumn:
    """Whether each latency meets its target. Without a target it always does; NaN never meets
    one."""
    if target_s is None:
        return np.ones(latency_s.shape, dtype=np.bool_)
    return latency_s <= target_s + TOLERANCE_S


def keeps_pace(slo: Slo, num_tokens: IntColumn, num_late_tokens: IntColumn) -> BoolColumn:
    """Whether few enough tokens (paced) or gaps (strict, mean) were late."""
    kept = np.ones(num_late_tokens.shape, dtype=np.bool_)
    if slo.itl_s is None:
        return kept
    # Most requests are never late, so the allowance is computed only where it matters.
    rows = np.flatnonzero(num_late_tokens)
    num_judged = num_tokens[rows] - (0 if slo.itl == "paced" else 1)
    counts, which = np.unique(num_judged, return_inverse=True)
    allowed = np.array([slo.late_allowance(int(count)) for count in counts], dtype=np.int64)
    kept[rows] = num_late_tokens[rows] <= allowed[which]
    return kept


def met_slo(slo: Slo, finished: BoolColumn, ttft: FloatColumn, e2e: FloatColumn,
            num_tokens: IntColumn, num_late_tokens: IntColumn) -> BoolColumn:
    """Whether each request met every target of its class; one that did not finish never does."""
    met = finished & within(ttft, slo.ttft_s) & within(e2e, slo.e2e_s)
    return met & keeps_pace(slo, num_tokens, num_late_tokens)


class GapStatistics(NamedTuple):
    """Summary of token gaps, kept without the token times; one value per request.

    The first three are NaN for requests with fewer than two tokens. ``num_late_tokens`` counts
    late tokens (paced) or late gaps (strict, mean), 0 without a pace target.
    """

    itl_mean_s: FloatColumn
    itl_p99_s: FloatColumn
    itl_max_s: FloatColumn
    num_late_tokens: IntColumn


def gap_statistics(token_s: FloatColumn, due_first_s: FloatColumn, itl_s: FloatColumn,
                   itl: ItlMode) -> GapStatistics:
    """Return statistics of a block of requests with equally many tokens, shape (requests, tokens).

    ``itl_s`` is the pace target of each request, NaN for none.
    """
    num_requests, num_tokens = token_s.shape
    gaps = gaps_s(token_s)
    if itl == "paced":
        late = late_by_pace(token_s, due_first_s, itl_s)
    else:
        late = late_by_gap(gaps, itl_s) if itl == "strict" else late_by_mean(gaps, itl_s)
    num_late = np.asarray(late.sum(axis=1, dtype=np.int64))
    if num_tokens < 2:
        none = np.full(num_requests, np.nan)
        return GapStatistics(none, none, none, num_late)
    mean = (token_s[:, -1] - token_s[:, 0]) / (num_tokens - 1)
    largest = gaps.max(axis=1)
    # Up to 99 gaps the nearest rank of the 99th percentile is the largest.
    p99 = itl_p99_s(gaps) if num_tokens > 100 else largest
    return GapStatistics(mean, p99, largest, num_late)


class Latencies(NamedTuple):
    """One request's latencies, in seconds; NaN where undefined."""

    ttft_s: float
    queue_s: float
    tpot_s: float
    e2e_s: float
    itl_mean_s: float
    itl_p99_s: float
    itl_max_s: float
    num_late_tokens: int
    met_slo: bool


def request_latencies(slo: Slo, arrival_s: float, first_scheduled_s: float,
                      token_s: FloatColumn, finished: bool = True) -> Latencies:
    """Return the latencies of one request with all its token times."""
    num = np.array([len(token_s)])
    ends = token_s[[0, -1]] if len(token_s) else np.full(2, np.nan)
    arrival, first, last = np.array([arrival_s]), ends[:1], ends[1:]
    pace = np.array([np.nan if slo.itl_s is None else slo.itl_s])
    gaps = gap_statistics(token_s[None, :], first_due_s(slo, arrival, first), pace,
                          slo.itl)
    ttft, e2e = ttft_s(arrival, first), e2e_s(arrival, last)
    met = met_slo(slo, np.array([finished]), ttft, e2e, num, gaps.num_late_tokens)
    return Latencies(
        float(ttft[0]), float(queue_s(arrival, np.array([first_scheduled_s]))[0]),
        float(tpot_s(first, last, num)[0]), float(e2e[0]), float(gaps.itl_mean_s[0]),
        float(gaps.itl_p99_s[0]), float(gaps.itl_max_s[0]), int(gaps.num_late_tokens[0]),
        bool(met[0]))
