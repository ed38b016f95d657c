"""The published search for the least batch limit that nearly reaches the best throughput."""

from dataclasses import dataclass, replace

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.queueing.parameters import IterationTimes, QueueSpec
from penstock.published.inferno.queueing.analysis import MeanMetrics, Sizing
from penstock.published.inferno.queueing.rates import IterationService
from penstock.published.inferno.queueing.sizing import size_one
from penstock.published.inferno.values import Targets

TOLERATED_LOSS = 0.01  # of the plateau: half of the published epsilon of 2 %
_MAX_PROBES = 6


@dataclass(frozen=True, slots=True)
class Onset:
    """Batch limit at which throughput under the targets stops growing.

    ``calls`` counts evaluations that found a feasible rate, ``probes`` every batch tried, in
    order. Infeasible: the least batch, throughput 0, no metrics.
    """

    max_batch: int
    throughput_per_s: float
    metrics: MeanMetrics | None
    itl_batch: int
    prefill_batch: int
    anchor_per_s: float
    calls: int
    probes: tuple[int, ...]

    @property
    def feasible(self) -> bool:
        """Whether any rate meets the targets."""
        return self.throughput_per_s > 0.0


def closed_form_batches(queue: QueueSpec, targets: Targets, limit: int) -> tuple[int, int]:
    """The largest batches up to ``limit`` whose closed-form ITL and prefill meet their targets.

    Every batch is tried and the last that fits wins; at least 1. An unset target counts as 0 ms
    and so gives 1 (trap). Needs iteration times.
    """
    if not isinstance(queue.times, IterationTimes):
        raise InputError("optimal concurrency: expected iteration times (alpha, beta, gamma)")
    service = IterationService([queue])
    batches = np.arange(1.0, limit + 1.0, dtype=np.float32)[None, :]
    chunks = service.chunks(batches)
    itl = service.itl_ms(batches, chunks)[0] <= (targets.itl_ms or 0.0)
    prefill = service.prefill_ms(batches, chunks)[0] <= (targets.ttft_ms or 0.0)
    return _last(itl), _last(prefill)


def optimal_concurrency(queue: QueueSpec, targets: Targets, limit: int) -> Onset:
    """Onset search over batch limits 1..``limit``; the queue's own limit is not used.

    Source: llm-inferno/queue-analysis 0.8: the closed forms bound an interval, the throughput at
    ``limit`` stands for the plateau, and bisection finds the least batch within 1 % of it.
    """
    if limit < 1:
        raise InputError(f"largest batch: found {limit}; expected at least 1")
    itl_batch, prefill_batch = closed_form_batches(queue, targets, limit)
    search = _Evaluations(queue, targets)
    anchor = search.throughput(limit)
    if anchor <= 0.0:
        return Onset(1, 0.0, None, itl_batch, prefill_batch, 0.0, 0, tuple(search.probes))
    low = max(1, min(itl_batch, prefill_batch))
    high = max(low, min(limit, max(3 * max(itl_batch, prefill_batch), low + 1)))
    for _ in range(_MAX_PROBES):
        if low >= high:
            break
        middle = (low + high) // 2
        if search.throughput(middle) >= (1.0 - TOLERATED_LOSS) * anchor:
            high = middle
        else:
            low = middle + 1
    throughput = search.throughput(high)
    return Onset(high, throughput, search.last.metrics, itl_batch, prefill_batch, anchor,
                 search.calls, tuple(search.probes))


class _Evaluations:
    """Throughput under the targets at one batch limit after another, and the tally."""

    def __init__(self, queue: QueueSpec, targets: Targets) -> None:
        self._queue = queue
        self._targets = targets
        self.probes: list[int] = []
        self.calls = 0
        self.last: Sizing

    def throughput(self, max_batch: int) -> float:
        self.probes.append(max_batch)
        self.last = size_one(replace(self._queue, max_batch=max_batch), self._targets)
        found = self.last.metrics.throughput_per_s if self.last.metrics else 0.0
        self.calls += found > 0.0
        return found


def _last(fits: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> int:
    """The largest batch that fits; 1 when none does."""
    return int(np.flatnonzero(fits)[-1]) + 1 if fits.any() else 1
