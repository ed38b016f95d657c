"""A run in numbers: per class and overall, as a plain dictionary ready for JSON.

Undefined values are ``None``, never NaN, and keys always come in the same order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from penstock.core.slo import ServiceClass, Slo
from penstock.core.units import SECONDS_PER_HOUR
from penstock.metrics.attainment import (
    Attainment,
    arrival_window_s,
    observed_window_s,
    per_second,
)
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.misses import late_token_shares, missed_targets
from penstock.metrics.table import STATUSES, RequestTable

PERCENTILES = (50, 90, 95, 99)
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Times that rates are over: ``arrival_s`` for rates of arrivals, ``whole_s``, which lasts
    until the last token, for all else."""

    arrival_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a run used: computing time per replica, and the bill per hour.

    ``busy_s[i]`` is the total duration of replica i's steps, ``replicas[i]`` its number.
    """

    busy_s: FloatColumn
    cost_per_hour: float
    replicas: Sequence[int] = ()

    def busy(self, window_s: float) -> float | None:
        """Share of the replicas' time spent computing; ``None`` without replicas or time."""
        if not len(self.busy_s) or window_s <= 0:
            return None
        return float(self.busy_s.sum()) / (len(self.busy_s) * window_s)


def summarise(table: RequestTable, classes: Sequence[ServiceClass], usage: Usage,
              window_s: float | None = None) -> dict[str, Any]:
    """Everything ``summary.json`` says about the outcome of a run.

    ``window_s`` defaults to the observed window. Cost and busy time of a class are its share of
    the run's computed tokens (prompt and output alike), since replicas serve classes together.
    ``utilisation`` is the former name of ``busy``.
    """
    windows = Windows(arrival_window_s(table),
                      observed_window_s(table) if window_s is None else window_s)
    total_tokens = computed_tokens(table)
    by_class = {}
    for service_class in classes:
        rows = table.of_class(service_class.name)
        share = computed_tokens(rows) / total_tokens if total_tokens else 0.0
        by_class[service_class.name] = {
            "priority": service_class.priority,
            "weight": service_class.weight,
            "slo": slo_dict(service_class.slo),
            **_outcome(rows, windows, usage, share),
            "missed": missed_targets(rows, service_class.slo),
            "late_token_share": percentiles(late_token_shares(rows, service_class.slo)),
            "meets_slo": _attainment(rows).meets(service_class.slo.percentile),
        }
    verdicts = [entry["meets_slo"] for entry in by_class.values()]
    overall = {**_outcome(table, windows, usage, 1.0),
               "meets_slo": None if all(v is None for v in verdicts) else False not in verdicts}
    return {"arrival_window_s": windows.arrival_s, "window_s": windows.whole_s,
            "overall": overall, "classes": by_class,
            "replicas": _replicas(table, usage, windows.whole_s)}


def percentiles(values: FloatColumn) -> dict[str, float | None]:
    """p50, p90, p95 and p99 by nearest rank over the values that exist."""
    known = np.sort(values[~np.isnan(values)])
    return {f"p{q}": float(known[ceil(q * len(known) / 100) - 1]) if len(known) else None
            for q in PERCENTILES}


def slo_dict(slo: Slo) -> dict[str, Any]:
    """Targets as a plain dictionary."""
    return {"ttft_s": slo.ttft_s, "itl_s": slo.itl_s, "e2e_s": slo.e2e_s, "itl": slo.itl,
            "percentile": slo.percentile}


def _attainment(table: RequestTable) -> Attainment:
    return Attainment(int(table.met_slo.sum()), len(table))


def computed_tokens(table: RequestTable) -> int:
    """Prompt and output tokens of requests that started."""
    # A client of a live engine learns of the start by the first token only.
    started = ~(np.isnan(table.first_scheduled_s) & np.isnan(table.first_token_s))
    return int(table.prompt_tokens[started].sum() + table.output_tokens[started].sum())


def cost_per_million_tokens(cost_per_hour: float, window_s: float, tokens: int) -> float | None:
    """Cost of a window over the prompt and output tokens computed in it; ``None`` without any."""
    return _ratio(cost_per_hour * window_s / SECONDS_PER_HOUR * MILLION, tokens)


def _outcome(table: RequestTable, windows: Windows, usage: Usage, share: float) -> dict[str, Any]:
    attainment = _attainment(table)
    low, high = attainment.interval or (None, None)
    window_s, busy = windows.whole_s, usage.busy(windows.whole_s)
    busy = None if busy is None else busy * share
    return {
        "received": len(table),
        **{name: int((table.status == code).sum()) for code, name in enumerate(STATUSES)},
        "met": attainment.met,
        "attainment": attainment.share,
        "attainment_low": low,
        "attainment_high": high,
        "goodput_requests_per_s": per_second(attainment.met, window_s),
        "goodput_tokens_per_s": per_second(int(table.output_tokens[table.met_slo].sum()), window_s),
        "received_requests_per_s": per_second(len(table), windows.arrival_s),
        "output_tokens_per_s": per_second(int(table.output_tokens.sum()), window_s),
        "prompt_tokens": int(table.prompt_tokens.sum()),
        "output_tokens": int(table.output_tokens.sum()),
        "num_late_tokens": int(table.num_late_tokens.sum()),
        "num_preemptions": int(table.num_preemptions.sum()),
        "num_relegations": int(table.num_relegations.sum()),
        "latency": _latencies(table),
        "busy": busy,
        "utilisation": busy,
        "cost": _cost(table, usage.cost_per_hour * share, window_s),
    }


def _latencies(table: RequestTable) -> dict[str, dict[str, float | None]]:
    """Return latencies: of first tokens for every request that got one, others for finished
    ones."""
    finished = table.take(table.finished)
    return {
        "ttft_s": percentiles(table.ttft_s),
        "queue_s": percentiles(table.queue_s),
        "tpot_s": percentiles(finished.tpot_s),
        "itl_mean_s": percentiles(finished.itl_mean_s),
        "itl_p99_s": percentiles(finished.itl_p99_s),
        "itl_max_s": percentiles(finished.itl_max_s),
        "e2e_s": percentiles(finished.e2e_s),
    }


def _cost(table: RequestTable, per_hour: float, window_s: float) -> dict[str, float | None]:
    total = per_hour * window_s / SECONDS_PER_HOUR
    finished = int(table.finished.sum())
    met = int(table.met_slo.sum())
    return {
        "per_hour": per_hour,
        "total": total,
        "per_million_tokens": cost_per_million_tokens(per_hour, window_s, computed_tokens(table)),
        "per_million_output_tokens": _ratio(total * MILLION, int(table.output_tokens.sum())),
        "per_finished_request": _ratio(total, finished),
        "per_met_request": _ratio(total, met),
    }


def _ratio(amount: float, count: int) -> float | None:
    return amount / count if count else None


def _replicas(table: RequestTable, usage: Usage, window_s: float) -> list[dict[str, Any]]:
    numbers = usage.replicas or range(len(usage.busy_s))
    return [{"replica": int(number), "requests": int((table.replica == number).sum()),
             "busy_s": float(busy_s), "busy": per_second(float(busy_s), window_s),
             "utilisation": per_second(float(busy_s), window_s)}
            for number, busy_s in zip(numbers, usage.busy_s, strict=True)]
