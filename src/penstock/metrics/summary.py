"""A run in numbers: per class and overall."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.core.units import SECONDS_PER_HOUR
from penstock.metrics.attainment import (
    Attainment,
    arrival_window_s,
    observed_window_s,
    per_second,
)
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.misses import late_token_shares, missed_targets
from penstock.metrics.run_summary import (
    ClassSummary,
    Cost,
    Latencies,
    Outcome,
    OverallSummary,
    Percentiles,
    ReplicaUse,
    RunSummary,
)
from penstock.metrics.table import STATUSES, RequestTable

PERCENTILES = (50, 90, 95, 99)
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of rates: ``arrival_s`` for arrival rates; ``whole_s``, which lasts until the last
    token, for all others."""

    arrival_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a run used: computing time per replica, and the bill per hour.

    ``busy_s[i]`` is the total duration of replica i's steps, ``replicas[i]`` its number.
    ``held_s`` is the time of all replicas together where they came and went.
    """

    busy_s: FloatColumn
    cost_per_hour: float
    replicas: Sequence[int] = ()
    held_s: float | None = None

    def busy(self, window_s: float) -> float | None:
        """Return the share of the replicas' time spent computing, ``None`` without replicas or
        time."""
        if not len(self.busy_s) or window_s <= 0:
            return None
        held_s = len(self.busy_s) * window_s if self.held_s is None else self.held_s
        return float(self.busy_s.sum()) / held_s if held_s > 0 else None


def summarise(table: RequestTable, classes: Sequence[ServiceClass], usage: Usage,
              window_s: float | None = None) -> RunSummary:
    """The outcome of a run.

    ``window_s`` defaults to the observed window. Cost and busy time of a class are its share of
    the run's computed tokens (prompt and output alike), since replicas serve classes together.
    """
    windows = Windows(arrival_window_s(table),
                      observed_window_s(table) if window_s is None else window_s)
    total_tokens = computed_tokens(table)
    by_class = {}
    for service_class in classes:
        rows = table.of_class(service_class.name)
        share = computed_tokens(rows) / total_tokens if total_tokens else 0.0
        by_class[service_class.name] = ClassSummary(
            priority=service_class.priority, weight=service_class.weight, slo=service_class.slo,
            **vars(_outcome(rows, windows, usage, share)),
            missed=missed_targets(rows, service_class.slo),
            late_token_share=percentiles(late_token_shares(rows, service_class.slo)),
            meets_slo=_attainment(rows).meets(service_class.slo.percentile))
    verdicts = [entry.meets_slo for entry in by_class.values()]
    overall = OverallSummary(
        **vars(_outcome(table, windows, usage, 1.0)),
        meets_slo=None if all(v is None for v in verdicts) else False not in verdicts)
    return RunSummary(arrival_window_s=windows.arrival_s, window_s=windows.whole_s,
                      overall=overall, classes=by_class,
                      replicas=_replicas(table, usage, windows.whole_s))


def percentiles(values: FloatColumn) -> Percentiles:
    """Return p50, p90, p95 and p99 by nearest rank over the values that exist."""
    known = np.sort(values[~np.isnan(values)])
    p50, p90, p95, p99 = (float(known[ceil(q * len(known) / 100) - 1]) if len(known) else None
                          for q in PERCENTILES)
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99)


def _attainment(table: RequestTable) -> Attainment:
    return Attainment(int(table.met_slo.sum()), len(table))


def computed_tokens(table: RequestTable) -> int:
    """Return the prompt and output tokens of requests that started."""
    # A client of a live engine observes the start only by the first token.
    started = ~(np.isnan(table.first_scheduled_s) & np.isnan(table.first_token_s))
    return int(table.prompt_tokens[started].sum() + table.output_tokens[started].sum())


def cost_per_million_tokens(cost_per_hour: float, window_s: float, tokens: int) -> float | None:
    """Return the cost of a window divided by its computed tokens in millions, ``None`` without
    tokens."""
    return _ratio(cost_per_hour * window_s / SECONDS_PER_HOUR * MILLION, tokens)


def _outcome(table: RequestTable, windows: Windows, usage: Usage, share: float) -> Outcome:
    attainment = _attainment(table)
    low, high = attainment.interval or (None, None)
    window_s, busy = windows.whole_s, usage.busy(windows.whole_s)
    statuses = {name: int((table.status == code).sum()) for code, name in enumerate(STATUSES)}
    return Outcome(
        received=len(table), **statuses, met=attainment.met, attainment=attainment.share,
        attainment_low=low, attainment_high=high,
        goodput_requests_per_s=per_second(attainment.met, window_s),
        goodput_tokens_per_s=per_second(int(table.output_tokens[table.met_slo].sum()), window_s),
        received_requests_per_s=per_second(len(table), windows.arrival_s),
        output_tokens_per_s=per_second(int(table.output_tokens.sum()), window_s),
        prompt_tokens=int(table.prompt_tokens.sum()),
        output_tokens=int(table.output_tokens.sum()),
        num_late_tokens=int(table.num_late_tokens.sum()),
        num_preemptions=int(table.num_preemptions.sum()),
        num_relegations=int(table.num_relegations.sum()), latency=_latencies(table),
        busy=None if busy is None else busy * share,
        cost=_cost(table, usage.cost_per_hour * share, window_s))


def _latencies(table: RequestTable) -> Latencies:
    """Return latencies: TTFT of every request with a first token, others of finished requests."""
    finished = table.take(table.finished)
    return Latencies(
        ttft_s=percentiles(table.ttft_s), queue_s=percentiles(table.queue_s),
        tpot_s=percentiles(finished.tpot_s), itl_mean_s=percentiles(finished.itl_mean_s),
        itl_p99_s=percentiles(finished.itl_p99_s), itl_max_s=percentiles(finished.itl_max_s),
        e2e_s=percentiles(finished.e2e_s))


def _cost(table: RequestTable, per_hour: float, window_s: float) -> Cost:
    total = per_hour * window_s / SECONDS_PER_HOUR
    return Cost(
        per_hour=per_hour, total=total,
        per_million_tokens=cost_per_million_tokens(per_hour, window_s, computed_tokens(table)),
        per_million_output_tokens=_ratio(total * MILLION, int(table.output_tokens.sum())),
        per_finished_request=_ratio(total, int(table.finished.sum())),
        per_met_request=_ratio(total, int(table.met_slo.sum())))


def _ratio(amount: float, count: int) -> float | None:
    return amount / count if count else None


def _replicas(table: RequestTable, usage: Usage, window_s: float) -> tuple[ReplicaUse, ...]:
    numbers = usage.replicas or range(len(usage.busy_s))
    return tuple(ReplicaUse(replica=int(number), requests=int((table.replica == number).sum()),
                            busy_s=float(busy_s), busy=per_second(float(busy_s), window_s))
                 for number, busy_s in zip(numbers, usage.busy_s, strict=True))
