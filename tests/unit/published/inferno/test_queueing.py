"""The published mode: formulas on hand-made cases, and its traps as they are."""

import itertools
import math

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.perf.queueing.parameters import (
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
)
from penstock.published.inferno.queueing.analysis import InfernoQueues, analyze
from penstock.published.inferno.queueing.chain import FiniteChain
from penstock.published.inferno.queueing.chunks import batch_limit, chunk_counts
from penstock.published.inferno.queueing.concurrency import closed_form_batches, optimal_concurrency
from penstock.published.inferno.queueing.sizing import size, size_one
from penstock.published.inferno.values import Targets

V1 = QueueSpec(DecodePrefillTimes(20.58, .41, 200, .02), RequestSize(128, 1024), 24, 240)
V2 = QueueSpec(IterationTimes(12, .05, .0005), RequestSize(128, 512), 48, 128)
ONE = QueueSpec(IterationTimes(10, .1, .001), RequestSize(100, 100), 1, 100)


def test_chain_of_one_server_is_m_m_1_k() -> None:
    chain = FiniteChain(np.array([[2.0]]), np.array([1.0]), np.array([4.0]))
    found = chain.occupancy(np.array([1.0]))
    weights = 0.5 ** np.arange(6)
    assert found.probabilities[0] == pytest.approx(weights / weights.sum())
    assert found.throughput[0] == pytest.approx(1.0 - weights[5] / weights.sum())
    assert found.in_service[0] == pytest.approx(found.throughput[0] / 2.0)


def test_chains_are_finite_at_extremes() -> None:
    chain = FiniteChain(np.full((1, 1), 1e-6), np.array([1.0]), np.array([20_000.0]))
    overloaded = chain.occupancy(np.array([1e3]))
    assert overloaded.throughput[0] == pytest.approx(1e-6)
    assert overloaded.in_system[0] == pytest.approx(20_001.0, rel=1e-6)


def test_rows_of_different_lengths_do_not_touch() -> None:
    queues = [V2, ONE, QueueSpec(V2.times, V2.size, 7, 0)]
    together = InfernoQueues(queues).metrics(np.array([2.0, 0.5, 0.3]))
    for row, (queue, rate) in enumerate(zip(queues, (2.0, 0.5, 0.3), strict=True)):
        alone = InfernoQueues([queue]).metrics(np.array([rate])).row(0)
        for name in alone.__slots__:
            ours = getattr(together.row(row), name)
            assert ours == pytest.approx(getattr(alone, name), rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize(("prompt", "answer", "budget"), [*itertools.product(
    (0, 1, 128, 1000, 4096), (1, 64, 1000.5), (256, 2048, 8192))])
def test_chunk_count_is_the_least_that_fits(prompt: float, answer: float, budget: int) -> None:
    batches = np.array([1.0, 2.0, 17.0, 100.0])
    counts = chunk_counts(batches, prompt, answer, budget)
    for batch, count in zip(batches, counts, strict=True):
        tried = next(k for k in itertools.count(1)
                     if batch_limit(float(k), prompt, answer, budget) >= batch)
        assert count == tried


def test_metrics_obey_little() -> None:
    for queue in (V1, V2):
        found = analyze(queue, 0.5)
        in_system = found.throughput_per_s * found.response_ms / 1000.0
        assert in_system >= found.in_service * (1 - 1e-6)  # 32-bit floats
        assert found.response_ms == pytest.approx(
            found.in_service / found.throughput_per_s * 1000.0 + found.wait_ms)


def test_guards_of_the_rate() -> None:
    limit = float(InfernoQueues([V1]).max_rate_per_s[0])
    assert analyze(V1, limit).throughput_per_s < limit
    with pytest.raises(InputError, match="at most"):
        analyze(V1, 1.01 * limit)
    assert analyze(V2, 100.0).throughput_per_s < 4.0  # no guard: overload shows in throughput
    for rate in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(InputError, match="rate"):
            analyze(V2, rate)


def test_sizing_meets_its_targets() -> None:
    found = size_one(V1, Targets(1000, 30))
    assert found.feasible
    assert found.rate_per_s == min(found.rate_ttft_per_s, found.rate_itl_per_s)
    assert found.metrics.ttft_ms == pytest.approx(1000, rel=1e-4)
    assert found.metrics.itl_ms < 30


def test_sizing_keeps_order_and_lets_the_infeasible_be() -> None:
    queues = [V2, V1, ONE, V2]
    targets = [Targets(60, 20), Targets(1000, 30), Targets(200, 30), Targets(1, 1)]
    found = size(queues, targets)
    assert [each.feasible for each in found] == [True, True, False, False]
    assert found[0].rate_per_s == pytest.approx(size_one(V2, targets[0]).rate_per_s)
    assert found[3].rate_per_s == 0.0


def test_traps_are_kept() -> None:
    # A batch of one has a flat ITL: 10.25 ms, yet a target of 30 ms is called out of reach.
    assert size_one(ONE, Targets(None, 30)).error is not None
    # The same in the first generation; a target below the flat value counts as met there.
    flat = QueueSpec(DecodePrefillTimes(27.41, 7.07, 100, .1), RequestSize(256, 256), 1, 10)
    assert not size_one(flat, Targets(None, 60)).feasible
    assert size_one(flat, Targets(None, 20)).feasible
    # A throughput target gives 0.9 of the limit, whatever it asks for.
    for wanted in (1.0, 1e6):
        found = size_one(V2, Targets(tokens_per_s=wanted))
        assert found.rate_per_s == pytest.approx(0.9 * found.max_rate_per_s)
    # Unset targets count as zero in the search for a batch limit.
    assert closed_form_batches(V2, Targets(), 128) == (1, 1)
    assert optimal_concurrency(V2, Targets(), 128).max_batch == 3
    # The limit of stability is that of a full batch, though a smaller one is faster.
    chunked = IterationTimes(8, .033, .000333, 2048)
    wide, narrow = (QueueSpec(chunked, RequestSize(4096, 64), n, 64) for n in (200, 16))
    assert (InfernoQueues([wide]).max_rate_per_s[0]
            < InfernoQueues([narrow]).max_rate_per_s[0])
    # Without a waiting room there is no wait, and requests are lost.
    lossy = analyze(QueueSpec(V2.times, V2.size, 48, 0), 3.8)
    assert lossy.wait_ms == pytest.approx(0.0, abs=1e-6)
    assert lossy.throughput_per_s < 3.7


@pytest.mark.parametrize("make", [
    lambda: IterationTimes(-1, 0.1), lambda: IterationTimes(1, math.nan),
    lambda: IterationTimes(1, 1, 1, 0), lambda: DecodePrefillTimes(1, math.inf),
    lambda: RequestSize(-1, 5), lambda: RequestSize(1, 0), lambda: Targets(-5),
    lambda: QueueSpec(V2.times, V2.size, 0), lambda: QueueSpec(V2.times, V2.size, 1, -1),
    lambda: QueueSpec(IterationTimes(0, 0), V2.size, 1), lambda: InfernoQueues([V1, V2]),
    lambda: optimal_concurrency(V2, Targets(1, 1), 0),
    lambda: optimal_concurrency(V1, Targets(1, 1), 9)])
def test_bad_values_are_told(make) -> None:
    with pytest.raises(InputError, match="expected"):
        make()
