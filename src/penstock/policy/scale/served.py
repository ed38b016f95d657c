"""Periods in which the same replicas of a group served, as counters and gauges tell."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.policy.scale.values import SeenDemand, SeenGroup, Totals

PERIOD_S = 60.0
"""Least length of a period: the mean of a shorter one has few answers."""

FEWEST = 20
"""First tokens below which chance decides the means of a period."""


@dataclass(frozen=True, slots=True)
class ServedPeriod:
    """Mean load and latencies of one replica of a group. ``served_s`` is how long the youngest of
    the ``num_replicas`` had served at the end. ``full`` says that requests waited at every replica
    when the period ended, so that its load was above what the replicas serve."""

    ended_s: float
    rate_per_s: float
    prompt_tokens: float
    output_tokens: float
    ttft_s: float
    itl_s: float
    num_replicas: int
    served_s: float
    full: bool


class ServedPeriods:
    """Cuts the observations of one group into periods. A change of the serving replicas begins a
    new one."""

    def __init__(self) -> None:
        self._since_s = 0.0
        self._serving: tuple[int, ...] = ()
        self._before: Totals | None = None

    def add(self, seen: SeenGroup, now_s: float) -> ServedPeriod | None:
        """Return the period that ends with this observation, None where none ends."""
        serving = tuple(one.replica_id for one in seen.of("ready", "draining"))
        before, now = self._before, seen.totals
        if now is None or before is None or serving != self._serving:
            self._begin(now, serving, now_s)
            return None
        if now_s - self._since_s < PERIOD_S:
            return None
        found = _period(seen, before, now, self._since_s, now_s)
        self._begin(now, serving, now_s)
        return found

    def _begin(self, totals: Totals | None, serving: tuple[int, ...], now_s: float) -> None:
        self._since_s, self._serving, self._before = now_s, serving, totals


def _period(seen: SeenGroup, before: Totals, now: Totals, since_s: float, now_s: float
            ) -> ServedPeriod | None:
    """Return the means between two readings, None without enough answers or sums of latencies."""
    ready = seen.of("ready")
    num_first, num_gaps = (sum(after) - sum(start) for after, start in (
        (now.ttft, before.ttft), (now.tpot, before.tpot)))
    sums = (before.ttft_sum_s, now.ttft_sum_s, before.tpot_sum_s, now.tpot_sum_s)
    if None in sums or num_first < FEWEST or num_gaps < FEWEST \
            or len(ready) < len(seen.of("ready", "draining")):
        return None
    ttft_before, ttft_now, gaps_before, gaps_now = (one or 0.0 for one in sums)
    # Answers are as long as the gaps between their tokens say, whichever requests have ended.
    return ServedPeriod(
        now_s, num_first / (now_s - since_s) / len(ready),
        (now.prompt_tokens - before.prompt_tokens) / num_first, 1.0 + num_gaps / num_first,
        (ttft_now - ttft_before) / num_first, (gaps_now - gaps_before) / num_gaps, len(ready),
        now_s - max(one.since_s for one in ready),
        all(one.gauges is not None and one.gauges.num_waiting > 0 for one in ready))


def spread_of_lengths(demand: Sequence[SeenDemand]) -> tuple[float, float]:
    """Return the squared coefficients of variation of recent prompts and answers, 0 without
    any."""
    recent = [lengths for one in demand for lengths in one.recent]
    return _scv([prompt for prompt, _ in recent]), _scv([output for _, output in recent])


def _scv(values: Sequence[int]) -> float:
    if not values or not any(values):
        return 0.0
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / len(values) / mean**2
