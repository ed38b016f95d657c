"""Loads and mean latencies of servers from a Prometheus server.

Source: llm-inferno/control-loop ``pkg/collector``. A query asks for one figure of all servers at
once, by Deployment (the label ``job``) or by pod.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from penstock.published.inferno.values import Load
from penstock.serving.scaling.prometheus import Prometheus

Backend = Literal["serversim", "llmd"]
BACKENDS: tuple[Backend, ...] = ("serversim", "llmd")
"""Inferno's names: Deployments whose pods are scraped as one job, and pods of real vLLM engines."""

Key = tuple[str, ...]
"""The name of a job, or namespace and name of a pod."""

Figures = Mapping[str, Mapping[Key, float]]
"""Figures by name, and then by job or pod."""

_BY: Mapping[Backend, Key] = {"serversim": ("job",), "llmd": ("namespace", "pod")}
_RATES = {"finished": "request_success_total", "prompt": "prompt_tokens_total",
          "output": "generation_tokens_total",
          "ttft": "time_to_first_token_seconds_sum", "first": "time_to_first_token_seconds_count",
          "itl": "request_time_per_output_token_seconds_sum",
          "paced": "request_time_per_output_token_seconds_count"}
_RUNNING = "num_requests_running"
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Measured:
    """Load of a server, and its mean latencies in ms, 0 where they are not known."""

    load: Load
    ttft_ms: float = 0.0
    itl_ms: float = 0.0


class Series:
    """Reads the figures of the last ``window_s``."""

    def __init__(self, prometheus: Prometheus, backend: Backend, window_s: float) -> None:
        self._prometheus = prometheus
        self._queries = queries(backend, window_s)
        self._by = _BY[backend]

    async def read(self) -> Figures:
        """Return all figures. Raises PrometheusError."""
        found = await asyncio.gather(*map(self._one, self._queries.values()))
        return dict(zip(self._queries, found, strict=True))

    async def _one(self, query: str) -> Mapping[Key, float]:
        samples = await self._prometheus.series(query)
        return {tuple(one.labels.get(label, "") for label in self._by): one.value
                for one in samples if isfinite(one.value)}


def queries(backend: Backend, window_s: float) -> dict[str, str]:
    """Return the PromQL of every figure."""
    by, window = ", ".join(_BY[backend]), f"[{round(1000.0 * window_s)}ms]"
    return {name: f"sum by ({by}) (rate(vllm:{metric}{window}))"
            for name, metric in _RATES.items()} | {
        "running": f"sum by ({by}) (max_over_time(vllm:{_RUNNING}{window}))"}


def measured(figures: Figures, keys: Iterable[Key]) -> Measured | None:
    """Return the load of a server whose job or pods have ``keys``, None where it is not known.

    Completions are taken for arrivals, as published. But requests that run without any completion
    are a load that nobody knows, while Inferno would take it for none and give the replicas back.
    """
    own = [*keys]
    finished = _sum(figures, "finished", own)
    if finished is None or (finished == 0.0 and (_sum(figures, "running", own) or 0.0) > 0.0):
        return None
    if finished == 0.0:
        return Measured(Load())

    def ratio(part: str, whole: str, factor: float = 1.0) -> float:
        below = _sum(figures, whole, own) or 0.0
        return factor * (_sum(figures, part, own) or 0.0) / below if below else 0.0

    per_min = 60.0 * finished
    load = Load(per_min, int(ratio("prompt", "finished") + _ROUNDING),
                int(ratio("output", "finished") + _ROUNDING), per_min)
    return Measured(load, ratio("ttft", "first", 1000.0), ratio("itl", "paced", 1000.0))


def _sum(figures: Figures, name: str, keys: Iterable[Key]) -> float | None:
    known = [figures[name][key] for key in keys if key in figures[name]]
    return sum(known) if known else None
