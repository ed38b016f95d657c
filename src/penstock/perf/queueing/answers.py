"""The queue mode ``penstock``: the chain's answers about one replica, as documents in ms.

The command line and the planning API print these documents.
"""

from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.queueing.analysis import analyze
from penstock.perf.queueing.batch import QueueBatch
from penstock.perf.queueing.build import from_spec
from penstock.perf.queueing.mode import QueueProblem
from penstock.perf.queueing.parameters import IterationTimes
from penstock.perf.queueing.sizing import PercentileTargets, Sizing, best_concurrency, size

NAME = "penstock"


class PenstockMode:
    """Percentiles, a KV cache of limited size, and no bound on waiting requests."""

    def solve(self, problem: QueueProblem, rate_per_s: float) -> dict[str, Any]:
        """Throughput, waiting and latencies at a rate."""
        return {"mode": NAME, **_analysis(_replica(problem), rate_per_s)}

    def size(self, problem: QueueProblem) -> dict[str, Any]:
        """The highest rate at which the targets hold, and the analysis there."""
        batch, targets = _replica(problem), _targets(problem)
        return {"mode": NAME, **_sized(batch, size(batch, targets), targets)}

    def optimize(self, problem: QueueProblem) -> dict[str, Any]:
        """The fewest requests in service near the best rate under the targets."""
        batch, targets = _replica(problem), _targets(problem)
        found = best_concurrency(batch, targets)
        best = batch.with_slots(np.array([float(found.slots)]))
        return {"mode": NAME, "max_batch": found.slots, "num_tried": len(found.tried),
                **_sized(best, found.sizing, targets)}


MODE = PenstockMode()


def _replica(problem: QueueProblem) -> QueueBatch:
    """The problem's replica. Raises InputError when a step has no room beside a decode, and when
    the KV cache does not hold one request of mean length."""
    times, request = problem.queue.times, problem.queue.size
    if isinstance(times, IterationTimes) and times.max_step_tokens < 2:
        raise InputError(f"max_step_tokens: found {times.max_step_tokens}; expected at least 2")
    needed = request.input_tokens + request.output_tokens
    if problem.kv_tokens is not None and problem.kv_tokens < needed:
        raise InputError(f"kv_tokens: found {problem.kv_tokens:.10g}; a request needs "
                         f"{needed:.10g} tokens")
    return from_spec(problem.queue, kv_tokens=problem.kv_tokens, variability=problem.variability)


def _targets(problem: QueueProblem) -> PercentileTargets:
    """The problem's targets in seconds. Raises InputError for a target of 0."""
    for name in ("ttft_ms", "itl_ms", "tokens_per_s"):
        value = getattr(problem, name)
        if value is not None and not value > 0.0:
            raise InputError(f"{name}: found {value:g}; expected more than 0, or no such target")
    ttft_ms, itl_ms = problem.ttft_ms, problem.itl_ms
    return PercentileTargets(None if ttft_ms is None else ttft_ms / 1000.0,
                             None if itl_ms is None else itl_ms / 1000.0,
                             problem.tokens_per_s, problem.percentile)


def _sized(batch: QueueBatch, found: Sizing, targets: PercentileTargets) -> dict[str, Any]:
    feasible = bool(found.feasible[0])
    binding = found.binding[0]
    document = {"feasible": feasible, "reason": None if feasible else _reason(binding, targets),
                "binding": binding, "rate_per_s": float(found.rate_per_s[0]),
                "tokens_per_s": float(found.rate_per_s[0] * batch.output_tokens[0])}
    return document | (_analysis(batch, float(found.rate_per_s[0])) if feasible else {})


def _reason(binding: str, targets: PercentileTargets) -> str:
    of = "mean" if targets.percentile is None else f"p{targets.percentile:g}"
    return {
        "memory": "the KV cache does not hold one request",
        "ttft": f"{of} TTFT stays above {1000.0 * (targets.ttft_s or 0.0):g} ms at any rate",
        "itl": f"{of} ITL stays above {1000.0 * (targets.itl_s or 0.0):g} ms at any rate",
    }.get(binding, f"the replica delivers less than {targets.tokens_per_s or 0.0:g} tokens/s")


def _analysis(batch: QueueBatch, rate_per_s: float) -> dict[str, Any]:
    found = analyze(batch, np.array([rate_per_s]))

    def percentiles(values: Any) -> dict[str, float]:
        return {f"{percentile:g}": float(value) for percentile, value in
                zip(found.percentiles, values[0] * 1000.0, strict=True)}

    return {
        "offered_per_s": rate_per_s, "throughput_per_s": float(found.throughput_per_s[0]),
        "capacity_per_s": float(found.capacity_per_s[0]),
        "utilisation": float(found.utilisation[0]), "slots": int(batch.stable_slots[0]),
        "in_service": float(found.in_service[0]), "wait_ms": float(found.wait_s[0] * 1000.0),
        "wait_probability": float(found.wait_probability[0]),
        "ttft_ms": float(found.ttft_s[0] * 1000.0), "itl_ms": float(found.itl_s[0] * 1000.0),
        "ttft_percentiles_ms": percentiles(found.ttft_percentiles_s),
        "itl_percentiles_ms": percentiles(found.itl_percentiles_s)}
