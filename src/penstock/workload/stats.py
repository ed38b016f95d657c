"""Statistics of a trace: rate, burstiness, lengths, and shared prompt prefixes."""

from dataclasses import dataclass

import numpy as np

from penstock.workload.sessions import has_sessions, sessions_of
from penstock.workload.trace import Prefixes, Trace
from penstock.workload.workload import FloatColumn, IntColumn

MINUTE_S = 60.0
_MIN_PER_MINUTE = 20


@dataclass(frozen=True, slots=True)
class LengthStats:
    """One column of lengths, in tokens."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: int


@dataclass(frozen=True, slots=True)
class TraceStats:
    """A trace in numbers. Values that need arrival times, or prefix hashes, are None without.

    ``gap_cv`` is the coefficient of variation of the gaps between arrivals;
    ``gap_cv_within_minute`` the median of that over minutes with at least 20 arrivals, which a rate
    that drifts does not inflate. ``peak_minute_per_s`` is the rate of the busiest minute.
    ``spearman`` ties prompt to output lengths. ``prefix_reuse`` is the share of prompt tokens whose
    block an earlier request already had, for an unbounded cache. ``num_sessions`` is that of
    conversations, the longest of ``max_turns`` requests, by column or prefix hashes.
    """

    num_requests: int
    duration_s: float | None
    rate_per_s: float | None
    gap_cv: float | None
    gap_cv_within_minute: float | None
    peak_minute_per_s: float | None
    prompt: LengthStats
    output: LengthStats
    spearman: float | None
    prefix_reuse: float | None
    num_sessions: int | None = None
    max_turns: int | None = None


def trace_stats(trace: Trace) -> TraceStats:
    """The statistics of ``trace``, which holds at least one request."""
    times = trace.arrival_s
    gaps = np.diff(times) if times is not None else np.zeros(0)
    turns = np.unique(sessions_of(trace), return_counts=True)[1] if has_sessions(trace) else None
    return TraceStats(
        len(trace),
        trace.duration_s if times is not None else None,
        trace.rate_per_s if trace.duration_s > 0 else None,
        _variation(gaps),
        _variation_within_minute(times) if times is not None else None,
        _peak_minute_per_s(times) if times is not None else None,
        _length_stats(trace.prompt_tokens),
        _length_stats(trace.output_tokens),
        _spearman(trace.prompt_tokens, trace.output_tokens),
        _prefix_reuse(trace.prefixes, trace.prompt_tokens) if trace.prefixes else None,
        None if turns is None else len(turns), None if turns is None else int(turns.max()),
    )


def _variation(gaps: FloatColumn) -> float | None:
    if len(gaps) == 0 or gaps.mean() <= 0.0:
        return None
    return float(gaps.std() / gaps.mean())


def _minutes(times: FloatColumn) -> IntColumn:
    minutes: IntColumn = ((times - times[0]) // MINUTE_S).astype(np.int64)
    return minutes


def _variation_within_minute(times: FloatColumn) -> float | None:
    starts = np.flatnonzero(np.diff(_minutes(times))) + 1
    crowds = [crowd for crowd in np.split(times, starts) if len(crowd) >= _MIN_PER_MINUTE]
    values = [value for crowd in crowds if (value := _variation(np.diff(crowd))) is not None]
    return float(np.median(values)) if values else None


def _peak_minute_per_s(times: FloatColumn) -> float:
    _, counts = np.unique(_minutes(times), return_counts=True)
    return float(counts.max()) / MINUTE_S


def _length_stats(tokens: IntColumn) -> LengthStats:
    p50, p90, p99 = (float(value) for value in np.quantile(tokens, (0.5, 0.9, 0.99)))
    return LengthStats(float(tokens.mean()), p50, p90, p99, int(tokens.max()))


def _spearman(left: IntColumn, right: IntColumn) -> float | None:
    left_ranks, right_ranks = _ranks(left), _ranks(right)
    if left_ranks.std() == 0.0 or right_ranks.std() == 0.0:
        return None
    return float(np.corrcoef(left_ranks, right_ranks)[0, 1])


def _ranks(values: IntColumn) -> FloatColumn:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatColumn = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return ranks


def _prefix_reuse(prefixes: Prefixes, prompt_tokens: IntColumn) -> float:
    """Because a hash covers all before it, a block seen before has all before it seen, too."""
    seen = np.ones(len(prefixes.values), bool)
    seen[np.unique(prefixes.values, return_index=True)[1]] = False
    rows = np.repeat(np.arange(len(prompt_tokens)), prefixes.counts)
    blocks = np.bincount(rows, weights=seen, minlength=len(prompt_tokens))
    reused = np.minimum(blocks * prefixes.block_tokens, prompt_tokens)
    return float(reused.sum() / prompt_tokens.sum())
