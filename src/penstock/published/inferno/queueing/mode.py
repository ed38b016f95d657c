"""The queue mode ``inferno``: the published answers about one replica, by means in ms."""

from dataclasses import asdict
from typing import Any

from penstock.perf.queueing.mode import QueueProblem
from penstock.published.inferno.queueing.analysis import MeanMetrics, analyze
from penstock.published.inferno.queueing.concurrency import optimal_concurrency
from penstock.published.inferno.queueing.sizing import size_one
from penstock.published.inferno.values import Targets


class InfernoMode:
    """Means of one replica whose queue is bounded, with the traps of the published program."""

    def solve(self, problem: QueueProblem, rate_per_s: float) -> dict[str, Any]:
        """Means at a rate."""
        return asdict(analyze(problem.queue, rate_per_s))

    def size(self, problem: QueueProblem) -> dict[str, Any]:
        """The highest rate at which the mean targets hold; ``means`` are taken there."""
        found = size_one(problem.queue, _targets(problem))
        return {"feasible": found.feasible, "reason": found.error,
                "rate_per_s": found.rate_per_s, "rate_ttft_per_s": found.rate_ttft_per_s,
                "rate_itl_per_s": found.rate_itl_per_s, "rate_tokens_per_s": found.rate_tps_per_s,
                "max_rate_per_s": found.max_rate_per_s, "tokens_per_s": found.tokens_per_s,
                "means": _means(found.metrics)}

    def optimize(self, problem: QueueProblem) -> dict[str, Any]:
        """The published search for the batch limit; ``means`` are taken at its best rate."""
        found = optimal_concurrency(problem.queue, _targets(problem), problem.queue.max_batch)
        return {"feasible": found.feasible,
                "reason": (None if found.feasible else
                           "no rate meets the targets at the largest batch"),
                "max_batch": found.max_batch, "throughput_per_s": found.throughput_per_s,
                "itl_batch": found.itl_batch, "prefill_batch": found.prefill_batch,
                "anchor_per_s": found.anchor_per_s, "calls": found.calls,
                "probes": list(found.probes), "means": _means(found.metrics)}


MODE = InfernoMode()


def _targets(problem: QueueProblem) -> Targets:
    return Targets(problem.ttft_ms, problem.itl_ms, problem.tokens_per_s)


def _means(metrics: MeanMetrics | None) -> dict[str, Any] | None:
    return None if metrics is None else asdict(metrics)
