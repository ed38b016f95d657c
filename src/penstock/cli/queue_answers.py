"""Answers of the queue commands as documents, in both modes."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.cli.queue_input import INFERNO, PENSTOCK, QueueInput

if TYPE_CHECKING:
    from penstock.perf.queueing.inferno import MeanMetrics


def solve_inferno(given: QueueInput) -> dict[str, Any]:
    """Published means at a rate."""
    from penstock.perf.queueing.inferno import analyze

    return {"mode": INFERNO, **asdict(analyze(given.spec(), given.need("RPS")))}


def size_inferno(given: QueueInput) -> dict[str, Any]:
    """Published sizing by means."""
    from penstock.perf.queueing.inferno_sizing import size_one

    found = size_one(given.spec(), given.targets())
    return {"mode": INFERNO, "feasible": found.feasible, "reason": found.error,
            "rate_per_s": found.rate_per_s, "rate_ttft_per_s": found.rate_ttft_per_s,
            "rate_itl_per_s": found.rate_itl_per_s, "rate_tps_per_s": found.rate_tps_per_s,
            "tokens_per_s": found.tokens_per_s, **_means(found.metrics)}


def optimize_inferno(given: QueueInput) -> dict[str, Any]:
    """Published search for the batch limit, up to maxBatchSize (256)."""
    from penstock.perf.queueing.concurrency import optimal_concurrency

    spec = given.with_default("maxBatchSize", 256).spec()
    found = optimal_concurrency(spec, given.targets(), spec.max_batch)
    return {"mode": INFERNO, "feasible": found.feasible,
            "reason": None if found.feasible else "no rate meets the targets at the largest batch",
            "max_batch": found.max_batch, "itl_batch": found.itl_batch,
            "prefill_batch": found.prefill_batch, "anchor_per_s": found.anchor_per_s,
            "calls": found.calls, "probes": found.probes, **_means(found.metrics),
            "throughput_per_s": found.throughput_per_s}


def solve(given: QueueInput) -> dict[str, Any]:
    """Penstock's analysis at a rate."""
    from penstock.perf.queueing import answers

    return answers.solve(given.batch(), given.need("RPS"))


def size(given: QueueInput) -> dict[str, Any]:
    """Penstock's sizing by percentiles or means."""
    from penstock.perf.queueing import answers

    return answers.size(given.batch(), given.percentile_targets())


def optimize(given: QueueInput) -> dict[str, Any]:
    """Penstock's search over numbers in service."""
    from penstock.perf.queueing import answers

    batch = given.with_default("maxBatchSize", 256).batch()
    return answers.optimize(batch, given.percentile_targets())


# By command and mode.
ANSWERS: dict[tuple[str, str], Callable[[QueueInput], dict[str, Any]]] = {
    ("solve", INFERNO): solve_inferno, ("size", INFERNO): size_inferno,
    ("optimize", INFERNO): optimize_inferno, ("solve", PENSTOCK): solve, ("size", PENSTOCK): size,
    ("optimize", PENSTOCK): optimize}


def _means(metrics: "MeanMetrics | None") -> dict[str, Any]:
    return {} if metrics is None else asdict(metrics)
