"""Answers of the queue commands as documents, in both modes."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.cli.queue_input import QueueInput

if TYPE_CHECKING:
    from penstock.perf.queueing.batch import QueueBatch
    from penstock.perf.queueing.inferno import MeanMetrics
    from penstock.perf.queueing.sizing import PercentileTargets, Sizing


def solve_inferno(given: QueueInput) -> dict[str, Any]:
    """Published means at a rate."""
    from penstock.perf.queueing.inferno import analyze

    return {"mode": "inferno", **asdict(analyze(given.spec(), given.need("RPS")))}


def size_inferno(given: QueueInput) -> dict[str, Any]:
    """Published sizing by means."""
    from penstock.perf.queueing.inferno_sizing import size_one

    found = size_one(given.spec(), given.targets())
    return {"mode": "inferno", "feasible": found.feasible, "reason": found.error,
            "rate_per_s": found.rate_per_s, "rate_ttft_per_s": found.rate_ttft_per_s,
            "rate_itl_per_s": found.rate_itl_per_s, "rate_tps_per_s": found.rate_tps_per_s,
            "tokens_per_s": found.tokens_per_s, **_means(found.metrics)}


def optimize_inferno(given: QueueInput) -> dict[str, Any]:
    """Published search for the batch limit, up to maxBatchSize (256)."""
    from penstock.perf.queueing.concurrency import optimal_concurrency

    limit = int(given.get("maxBatchSize") or 256)
    spec = QueueInput({**given.values, "maxBatchSize": limit}).spec()
    found = optimal_concurrency(spec, given.targets(), limit)
    return {"mode": "inferno", "feasible": found.feasible,
            "reason": None if found.feasible else "no rate meets the targets at the largest batch",
            "max_batch": found.max_batch, "itl_batch": found.itl_batch,
            "prefill_batch": found.prefill_batch, "anchor_per_s": found.anchor_per_s,
            "calls": found.calls, "probes": found.probes, **_means(found.metrics),
            "throughput_per_s": found.throughput_per_s}


def solve(given: QueueInput) -> dict[str, Any]:
    """Penstock's analysis at a rate."""
    return {"mode": "penstock", **_analysis(given.batch(), given.need("RPS"))}


def size(given: QueueInput) -> dict[str, Any]:
    """Penstock's sizing by percentiles or means."""
    from penstock.perf.queueing.sizing import size as size_batch

    batch, targets = given.batch(), given.percentile_targets()
    return {"mode": "penstock", **_sized(batch, size_batch(batch, targets), targets)}


def optimize(given: QueueInput) -> dict[str, Any]:
    """Penstock's search over numbers in service."""
    from penstock.perf.queueing.sizing import best_concurrency

    batch = QueueInput({"maxBatchSize": 256, **given.values}).batch()
    targets = given.percentile_targets()
    found = best_concurrency(batch, targets)
    best = batch.with_slots(found.sizing.capacity_per_s * 0.0 + found.slots)
    return {"mode": "penstock", "max_batch": found.slots, "num_tried": len(found.tried),
            **_sized(best, found.sizing, targets)}


def _means(metrics: "MeanMetrics | None") -> dict[str, Any]:
    return {} if metrics is None else asdict(metrics)


def _sized(batch: "QueueBatch", found: "Sizing", targets: "PercentileTargets") -> dict[str, Any]:
    feasible = bool(found.feasible[0])
    binding = found.binding[0]
    document = {"feasible": feasible, "reason": None if feasible else _reason(binding, targets),
                "binding": binding, "rate_per_s": float(found.rate_per_s[0]),
                "tokens_per_s": float(found.rate_per_s[0] * batch.output_tokens[0])}
    return document | (_analysis(batch, float(found.rate_per_s[0])) if feasible else {})


def _reason(binding: str, targets: "PercentileTargets") -> str:
    of = "mean" if targets.percentile is None else f"p{targets.percentile:g}"
    return {
        "memory": "the KV cache does not hold one request",
        "ttft": f"{of} TTFT stays above {1000.0 * (targets.ttft_s or 0.0):g} ms at any rate",
        "itl": f"{of} ITL stays above {1000.0 * (targets.itl_s or 0.0):g} ms at any rate",
    }.get(binding, f"the replica delivers less than {targets.tokens_per_s or 0.0:g} tokens/s")


def _analysis(batch: "QueueBatch", rate: float) -> dict[str, Any]:
    """One replica's analysis, times in ms."""
    import numpy as np

    from penstock.perf.queueing.analysis import analyze

    found = analyze(batch, np.array([rate]))

    def percentiles(values: Any) -> dict[str, float]:
        return {f"{percentile:g}": float(value) for percentile, value in
                zip(found.percentiles, values[0] * 1000.0, strict=True)}

    return {
        "offered_per_s": rate, "throughput_per_s": float(found.throughput_per_s[0]),
        "capacity_per_s": float(found.capacity_per_s[0]),
        "utilisation": float(found.utilisation[0]), "slots": int(batch.stable_slots[0]),
        "in_service": float(found.in_service[0]), "wait_ms": float(found.wait_s[0] * 1000.0),
        "wait_probability": float(found.wait_probability[0]),
        "ttft_ms": float(found.ttft_s[0] * 1000.0), "itl_ms": float(found.itl_s[0] * 1000.0),
        "ttft_percentiles_ms": percentiles(found.ttft_percentiles_s),
        "itl_percentiles_ms": percentiles(found.itl_percentiles_s)}
