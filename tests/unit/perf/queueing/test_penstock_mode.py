"""Penstock's own mode: limits where the answer is known, the mended traps, and bad input."""

import math

import numpy as np
import pytest

from penstock.core.errors import InputError
from penstock.perf.evidence import Evidence
from penstock.perf.queueing.analysis import analyze
from penstock.perf.queueing.batch import stack
from penstock.perf.queueing.build import (
    from_spec,
    from_step_model,
    iteration_seconds,
    kv_tokens_per_request,
)
from penstock.perf.queueing.mixture import GammaMixture
from penstock.perf.queueing.parameters import (
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)
from penstock.perf.queueing.sizing import PercentileTargets, best_concurrency, size
from penstock.perf.step_time.knee import KneeStepTime
from penstock.perf.step_time.linear import LinearStepTime

EVIDENCE = Evidence("made up", 0.0, 0.0)
SIZE = RequestSize(256, 256)
LINEAR = LinearStepTime(0.01, 3e-5, 1e-9, 3e-5, 5e-8, EVIDENCE)
BATCH = from_step_model(LINEAR, SIZE, 64, max_step_tokens=2048)
CHUNKED = QueueSpec(IterationTimes(8, .033, .000333, 2048), RequestSize(4096, 64), 200)


def at(batch, *rates):
    return analyze(batch, np.array(rates))


def test_a_lone_request_waits_for_nobody() -> None:
    found = at(BATCH, 1e-6)
    alone_s = LINEAR.seconds(256, 256**2 / 2, 0, 0)
    assert found.ttft_s[0] == pytest.approx(alone_s, rel=0.01)
    assert found.ttft_percentiles_s[0] == pytest.approx(alone_s, rel=0.01)
    context = round(kv_tokens_per_request(SIZE))
    assert found.itl_s[0] == pytest.approx(LINEAR.seconds(0, 0, 1, context), rel=0.01)


def test_one_slot_and_one_token_is_m_m_1() -> None:
    """With one slot the wait is that of M/M/1 when answers vary as an exponential does."""
    times = DecodePrefillTimes(0, 0, 100, 0)
    batch = from_spec(QueueSpec(times, RequestSize(10, 1), 1),
                      variability=Variability(output_scv=1.0))
    found = at(batch, 5.0)
    assert found.capacity_per_s[0] == pytest.approx(10.0)
    assert found.wait_probability[0] == pytest.approx(0.5)
    assert found.wait_s[0] == pytest.approx(0.5 / (10.0 - 5.0))
    assert np.isnan(found.itl_s[0])  # one token: no gap


def test_overload_is_said() -> None:
    found = at(BATCH, 2 * float(BATCH.capacity_per_s[0]))
    assert found.throughput_per_s[0] == pytest.approx(BATCH.capacity_per_s[0])
    assert found.utilisation[0] == 1.0
    assert np.isinf(found.ttft_s[0])
    assert np.isinf(found.ttft_percentiles_s[0]).all()


def test_an_idle_replica_is_empty() -> None:
    found = at(BATCH, 0.0)
    assert (found.throughput_per_s[0], found.in_service[0], found.in_system[0]) == (0, 0, 0)
    assert np.isfinite(found.ttft_percentiles_s).all()


def test_bursts_and_variability_lengthen_waits() -> None:
    rate = 0.85 * float(BATCH.capacity_per_s[0])
    waits = [at(from_step_model(LINEAR, SIZE, 64, max_step_tokens=2048,
                                variability=Variability(arrivals, 0.0, answers)), rate).wait_s[0]
             for arrivals, answers in ((1, 0), (1, 1), (4, 1))]
    assert waits[0] < waits[1] < waits[2]


def test_kv_memory_limits_concurrency() -> None:
    per_request = kv_tokens_per_request(SIZE)
    assert per_request == 256 + 257 / 2
    tight = from_step_model(LINEAR, SIZE, 64, kv_tokens=10.5 * per_request)
    assert tight.slots[0] == 10
    assert tight.capacity_per_s[0] < BATCH.capacity_per_s[0]
    none = from_step_model(LINEAR, SIZE, 64, kv_tokens=0.5 * per_request)
    found = size(stack([none, BATCH]), PercentileTargets(ttft_s=10.0))
    assert found.binding[0] == "memory"
    assert found.feasible.tolist() == [False, True]
    assert at(none, 0.5).throughput_per_s[0] == 0.0


def test_published_iteration_times_as_steps() -> None:
    """A chunk of 100 after 300 reads 400 tokens of KV cache and computes 100."""
    seconds = iteration_seconds(IterationTimes(10, .1, .01))
    assert seconds(100, 100 * (300 + 50), 0, 0) == pytest.approx(.010 + .010 + .004)
    assert seconds(0, 0, 3, 500) == pytest.approx(.010 + .0003 + .005)


def test_a_knee_is_kept() -> None:
    """Curves follow the model where no line would."""
    knee = KneeStepTime(0.01, 1e-4, 4.0, 1e-5, 0.0, 0.0, 0.0, EVIDENCE)
    batch = from_step_model(knee, RequestSize(16, 2000), 512)
    for number in (1, 100, 512):
        decodes = number * 1999 / 2000
        assert batch.decode_step_s[0, number - 1] == pytest.approx(
            knee.seconds(0, 0, round(decodes), 0), rel=0.01)


def test_targets_are_met_at_the_rate_found() -> None:
    targets = PercentileTargets(0.1, 0.03, percentile=95.0)
    found = size(BATCH, targets)
    assert found.feasible[0]
    assert found.binding[0] in {"ttft", "itl"}
    there = analyze(BATCH, found.rate_per_s, (95.0,))
    assert there.ttft_percentiles_s[0, 0] <= 0.1 * 1.0001
    assert there.itl_percentiles_s[0, 0] <= 0.03 * 1.0001
    beyond = analyze(BATCH, found.rate_per_s * 1.02, (95.0,))
    assert (beyond.ttft_percentiles_s[0, 0] > 0.1) or (beyond.itl_percentiles_s[0, 0] > 0.03)


def test_flat_functions_are_feasible_when_they_meet_the_target() -> None:
    one = from_spec(QueueSpec(IterationTimes(10, .1, .001), RequestSize(100, 100), 1))
    assert size(one, PercentileTargets(itl_s=.03, percentile=None)).binding == ("capacity",)
    assert size(one, PercentileTargets(itl_s=.01, percentile=None)).binding == ("itl",)
    assert not size(one, PercentileTargets(itl_s=.01, percentile=None)).feasible[0]


def test_no_target_is_no_constraint() -> None:
    queue = from_spec(QueueSpec(IterationTimes(12, .05, .0005), RequestSize(128, 512), 128))
    found = size(queue, PercentileTargets())
    assert found.rate_per_s[0] == pytest.approx(0.999 * queue.capacity_per_s[0])
    best = best_concurrency(queue, PercentileTargets())
    assert best.sizing.rate_per_s[0] >= 0.99 * found.rate_per_s[0]
    assert best.slots > 64


def test_capacity_never_falls_with_more_slots() -> None:
    capacities = [float(from_spec(QueueSpec(CHUNKED.times, CHUNKED.size, n)).capacity_per_s[0])
                  for n in (1, 4, 16, 64, 200)]
    assert capacities == sorted(capacities)
    assert capacities[-1] > 3.33  # what the published mode finds at its best batch limit


def test_a_falling_rate_is_not_used() -> None:
    """Given as an array: beyond 3 in service everything gets slower, so 3 it is."""
    values = {name: getattr(BATCH, name).copy() for name in BATCH.__slots__}
    values["rate_per_s"][0] = np.concatenate([[1.0, 2.0, 3.0], np.linspace(2.9, 1.0, 61)])
    falling = type(BATCH)(**values)
    assert falling.capacity_per_s[0] == 3.0
    assert falling.stable_slots[0] == 3.0
    assert np.isfinite(at(falling, 2.5).ttft_percentiles_s).all()


def test_one_token_answers_have_no_pace_to_miss() -> None:
    batch = from_step_model(LINEAR, RequestSize(256, 1), 64)
    found = size(batch, PercentileTargets(itl_s=1e-6))
    assert found.binding == ("capacity",)
    assert found.feasible[0]


def test_throughput_binds_when_latency_leaves_too_little() -> None:
    # A share above what the replica can do at any rate; one within it changes nothing.
    most = float(BATCH.capacity_per_s[0]) * 256
    found = size(stack([BATCH, BATCH]), [PercentileTargets(tokens_per_s=1.1 * most),
                                         PercentileTargets(tokens_per_s=0.5 * most)])
    assert found.binding == ("throughput", "capacity")
    assert found.feasible.tolist() == [False, True]


def test_best_concurrency_trades_wait_against_pace() -> None:
    targets = PercentileTargets(ttft_s=1.0, itl_s=0.06, percentile=90.0)
    wide = from_spec(CHUNKED)
    best = best_concurrency(wide, targets)
    assert best.feasible
    assert best.sizing.rate_per_s[0] >= 0.99 * max(best.rates_per_s)
    assert best.sizing.rate_per_s[0] >= 0.99 * size(wide, targets).rate_per_s[0]
    impossible = best_concurrency(wide, PercentileTargets(ttft_s=1e-5))
    assert not impossible.feasible


def test_mixture_matches_its_moments_and_percentiles() -> None:
    """One exponential, and one nearly normal gamma by the other formula."""
    ones = np.ones((2, 1))
    mixture = GammaMixture(ones, 0 * ones, np.array([[2.0], [100.0]]), np.array([[4.0], [100.0]]))
    found = mixture.quantiles((50.0, 99.0))
    assert found[0] == pytest.approx([2 * math.log(2), 2 * math.log(100)], rel=1e-4)
    assert found[1] == pytest.approx([99.67, 124.7], rel=2e-3)
    assert mixture.average().tolist() == [2.0, 100.0]


@pytest.mark.parametrize("make", [
    lambda: at(BATCH, -1.0), lambda: at(BATCH, math.nan), lambda: at(BATCH, math.inf),
    lambda: analyze(BATCH, np.ones(1), (100.0,)), lambda: PercentileTargets(-1.0),
    lambda: PercentileTargets(percentile=0.0), lambda: size(BATCH, [PercentileTargets()] * 2),
    lambda: size(BATCH, PercentileTargets(), max_utilisation=1.0), lambda: stack([]),
    lambda: best_concurrency(stack([BATCH, BATCH]), PercentileTargets()),
    lambda: Variability(-1.0), lambda: from_step_model(LINEAR, SIZE, 0)])
def test_bad_values_are_told(make) -> None:
    with pytest.raises(InputError):
        make()
