"""Writes runs in GuideLLM's layout: version 2 of its reports, as release 0.8.1 reads them."""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from penstock.experiment.load.bench import BenchRun
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.run_summary import Origin
from penstock.metrics.table import RequestTable

_RELEASE = "0.8.1"
_GROUPS = ("successful", "errored", "incomplete")
_SHARES = {"p001": 0.1, "p01": 1, "p05": 5, "p10": 10, "p25": 25, "p50": 50, "p75": 75, "p90": 90,
           "p95": 95, "p99": 99, "p999": 99.9}
_SUMMARIES = ("input", "input_per_second", "input_concurrency", "output", "output_per_second",
              "output_concurrency", "total", "total_per_second", "total_concurrency")
_KINDS = {"text": ("tokens", "words", "characters"),
          "image": ("tokens", "images", "pixels", "bytes"),
          "video": ("tokens", "frames", "seconds", "bytes"),
          "audio": ("tokens", "samples", "seconds", "bytes"),
          "tool_call": ("tokens", "mixed_tokens", "count")}


def guidellm_document(runs: Sequence[BenchRun]) -> dict[str, Any]:
    """A report with one benchmark per run.

    As in GuideLLM, latencies count from when a request was sent (``request_start``); when it was
    due stands beside as ``targeted_start``. Rates and concurrency are written by their means.
    """
    load, origin = runs[0].measured.load, runs[0].summary.origin or Origin()
    return {
        "metadata": {"version": 2, "guidellm_version": _RELEASE,
                     "python_version": platform.python_version(),
                     "platform": platform.platform()},
        "config": {"metadata": {"labels": {"written_by": f"penstock {origin.version}"}},
                   "spec": {"backend": _backend(load), "profile": _profile(load),
                            "data": [{"kind": "synthetic_text", **_lengths(runs[0].table)}],
                            "seed": {"kind": "static", "value": origin.seed or 0},
                            "outputs": [{"kind": "json", "path": "benchmarks.json"}]}},
        "benchmarks": [_benchmark(run, number) for number, run in enumerate(runs)],
    }


def _backend(load: Mapping[str, Any]) -> dict[str, Any]:
    path = "/v1/chat/completions" if load.get("api") == "chat" else "/v1/completions"
    return {"kind": "openai_http", "target": load["url"], "model": load.get("model") or "",
            "request_format": path}


def _profile(load: Mapping[str, Any]) -> dict[str, Any]:
    if load["loop"] == "closed":
        return {"kind": "concurrent", "streams": [int(load.get("concurrency") or 1)]}
    return {"kind": "constant" if load.get("arrivals") == "constant" else "poisson",
            "rate": [float(load.get("rate_per_s") or 1.0)]}


def _lengths(table: RequestTable) -> dict[str, int]:
    return {"prompt_tokens": max(1, round(float(table.prompt_tokens.mean()))),
            "output_tokens": max(1, round(float(table.output_tokens.mean())))}


def _benchmark(run: BenchRun, number: int) -> dict[str, Any]:
    load, table = run.measured.load, run.table
    began_s = _epoch_s(load.get("began"))
    profile = _profile(load)
    entries: dict[str, list[dict[str, Any]]] = {name: [] for name in _GROUPS}
    for row in range(len(table)):
        group = "successful" if table.finished[row] else "errored"
        entries[group].append(_entry(run, row, began_s))
    start_s = began_s + float(run.sent_s.min())
    end_s = max(one["request_end_time"] for group in entries.values() for one in group)
    counts = {name: len(group) for name, group in entries.items()}
    counts["total"] = len(table)
    strategy = {"type_": profile["kind"], "worker_count": 1, "max_concurrency": len(table)}
    strategy |= ({"streams": profile["streams"][0]} if load["loop"] == "closed"
                 else {"rate": profile["rate"][0]})
    return {
        "type_": "generative_benchmark",
        "config": {"run_id": f"penstock-{began_s:.3f}", "run_index": number, "strategy": strategy,
                   "constraints": {}, "profile": profile, "requests": {}, "environment": {},
                   "backend": _backend(load)},
        "scheduler_state": {
            "node_id": 0, "num_processes": 1, "start_time": began_s, "end_time": end_s,
            "start_requests_time": start_s, "end_requests_time": end_s,
            "created_requests": counts["total"], "processed_requests": counts["total"],
            "successful_requests": counts["successful"], "errored_requests": counts["errored"]},
        "scheduler_metrics": _scheduler(run, began_s, start_s, end_s, counts),
        "metrics": _metrics(entries, counts, end_s - start_s),
        "requests": {**entries, "total": None},
        "start_time": start_s, "end_time": end_s, "duration": end_s - start_s,
        "warmup_duration": 0.0, "cooldown_duration": 0.0,
    }


def _epoch_s(began: str | None) -> float:
    return datetime.fromisoformat(began).timestamp() if began else 0.0


def _entry(run: BenchRun, row: int, began_s: float) -> dict[str, Any]:
    table = run.table
    finished = bool(table.finished[row])
    sent_s = began_s + float(run.sent_s[row])
    first_s, last_s = (began_s + float(moments[row])
                       for moments in (table.first_token_s, table.last_token_s))
    came = bool(np.isfinite(first_s))
    end_s = last_s if came else sent_s
    prompt, output = int(table.prompt_tokens[row]), int(table.output_tokens[row])
    gap_s = (last_s - first_s) / (output - 1) if came and output > 1 else None
    return {
        "type_": "generative_request_stats", "request_id": str(table.request_id[row]),
        "info": {"request_id": str(table.request_id[row]),
                 "status": "completed" if finished else "errored",
                 "error": run.failures[row] or None,
                 "scheduler_node_id": 0, "scheduler_process_id": 0,
                 "scheduler_start_time": began_s, "timings": {
                     "targeted_start": began_s + float(table.arrival_s[row]),
                     "resolve_start": sent_s, "request_start": sent_s,
                     "first_token_iteration": first_s if came else None,
                     "last_token_iteration": last_s if came else None,
                     "token_iterations": output, "request_iterations": output,
                     "request_end": end_s, "resolve_end": end_s}},
        "input_metrics": {"text_tokens": prompt}, "output_metrics": {"text_tokens": output},
        "request_start_time": sent_s, "request_end_time": end_s,
        "request_latency": end_s - sent_s, "prompt_tokens": prompt, "output_tokens": output,
        "total_tokens": prompt + output,
        "time_to_first_token_ms": 1000 * (first_s - sent_s) if came else None,
        "time_per_output_token_ms": 1000 * (end_s - sent_s) / output if output else None,
        "inter_token_latency_ms": None if gap_s is None else 1000 * gap_s,
        "output_tokens_per_second": _per(output, end_s - sent_s),
        "tokens_per_second": _per(prompt + output, end_s - sent_s),
    }


def _per(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds > 0 else None


def _scheduler(run: BenchRun, began_s: float, start_s: float, end_s: float,
               counts: Mapping[str, int]) -> dict[str, Any]:
    late_s = float(np.mean(run.sent_s - run.table.arrival_s))
    return {
        "start_time": began_s, "request_start_time": start_s, "measure_start_time": start_s,
        "measure_end_time": end_s, "request_end_time": end_s, "end_time": end_s,
        "requests_made": dict(counts), "queued_time_avg": 0.0, "resolve_start_delay_avg": 0.0,
        "resolve_targeted_start_delay_avg": late_s, "request_start_delay_avg": 0.0,
        "request_targeted_start_delay_avg": late_s,
        "request_time_avg": float(np.nanmean(run.table.last_token_s - run.sent_s))
        if np.isfinite(run.table.last_token_s).any() else 0.0,
        "resolve_end_delay_avg": 0.0, "resolve_time_avg": 0.0, "finalized_delay_avg": 0.0,
        "processed_delay_avg": 0.0}


def _metrics(entries: Mapping[str, list[dict[str, Any]]], counts: Mapping[str, int],
             duration_s: float) -> dict[str, Any]:
    def spread(key: str) -> dict[str, Any]:
        return _by_group({name: [one[key] for one in group if one[key] is not None]
                          for name, group in entries.items()})

    def mean(amount: str | None) -> dict[str, Any]:
        """The one value of a rate, per second of the whole run."""
        totals = {name: sum(one[amount] if amount else 1 for one in group)
                  for name, group in entries.items()}
        totals["total"] = sum(totals.values())
        return {name: _distribution(np.array([total / duration_s] if total and duration_s > 0
                                             else [])) for name, total in totals.items()}

    none: dict[str, list[float]] = {name: [] for name in entries}
    ones = _by_group({name: [1.0] * len(group) for name, group in entries.items()})
    return {
        "request_totals": dict(counts), "requests_per_second": mean(None),
        "request_concurrency": mean("request_latency"),
        "request_latency": spread("request_latency"),
        "request_streaming_iterations_count": spread("output_tokens"),
        "prompt_token_count": spread("prompt_tokens"),
        "output_token_count": spread("output_tokens"), "total_token_count": spread("total_tokens"),
        "time_to_first_token_ms": spread("time_to_first_token_ms"),
        "time_to_first_output_token_ms": spread("time_to_first_token_ms"),
        "time_per_output_token_ms": spread("time_per_output_token_ms"),
        "inter_token_latency_ms": spread("inter_token_latency_ms"),
        # Round trips of a websocket. Release 0.8 reads no report without these fields.
        "time_to_last_round_trip_ms": _by_group(none), "avg_round_trip_time_ms": _by_group(none),
        "prompt_tokens_per_second": mean("prompt_tokens"),
        "output_tokens_per_second": mean("output_tokens"),
        "tokens_per_second": mean("total_tokens"),
        "output_tokens_per_iteration": ones, "iter_tokens_per_iteration": ones,
        **{kind: {part: dict.fromkeys(_SUMMARIES) for part in parts}
           for kind, parts in _KINDS.items()},
    }


def _by_group(values: Mapping[str, list[float]]) -> dict[str, Any]:
    every = [value for group in values.values() for value in group]
    return {**{name: _distribution(np.array(group)) for name, group in values.items()},
            "total": _distribution(np.array(every))}


def _distribution(values: FloatColumn) -> dict[str, Any]:
    """A distribution in GuideLLM's fields; noughts where there are no values."""
    known = values if len(values) else np.zeros(1)
    kinds, numbers = np.unique(known, return_counts=True)
    found = {"mean": known.mean(), "median": np.median(known), "mode": kinds[numbers.argmax()],
             "variance": known.var(), "std_dev": known.std(), "min": known.min(),
             "max": known.max(), "total_sum": values.sum()}
    ranks = np.percentile(known, list(_SHARES.values()), method="inverted_cdf")
    return {**{name: float(value) for name, value in found.items()}, "count": len(values),
            "percentiles": dict(zip(_SHARES, ranks.tolist(), strict=True)), "pdf": None}
