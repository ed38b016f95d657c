"""Knative's, Ray Serve's and llm-d's laws on worked examples."""

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
    bucket,
    histogram_quantile,
)
from penstock.published.autoscalers.kpa import kpa
from penstock.published.autoscalers.llm_d_slo import llm_d_slo, replicas_for
from penstock.published.autoscalers.ray_serve import ray

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=3.0, itl_s=0.1))}


def context(first: int = 1, floor: int = 0, ceiling: int = 100) -> ScalerContext:
    return ScalerContext((GroupFacts("m", floor, ceiling, first, 1.0, 60.0, 1000),), CLASSES)


def seen(now_s: float, target: int, ongoing: float, *, ready: int | None = None, num_held: int = 0,
         totals: Totals | None = None) -> Observation:
    ready = target if ready is None else ready
    load = [int(ongoing // max(1, ready)) + (i < ongoing % max(1, ready)) for i in range(ready)]
    replicas = [SeenReplica(i, "ready", 0.0, Gauges(int(load[i]), 0, 0.1), now_s)
                for i in range(ready)]
    replicas += [SeenReplica(i, "starting", 0.0) for i in range(ready, target)]
    return Observation(now_s, (SeenGroup(target, tuple(replicas), totals),),
                       (SeenDemand("m", "chat", 0, 0, 0, 0, num_held),))


def test_knative_keeps_the_mean_of_a_minute_at_the_target():
    scaler = kpa({"target": 10}, context(1))
    for step in range(31):
        found = scaler.decide(seen(2.0 * step, 1, 15), 2.0 * step)
    assert found.targets == (2,)


def test_knative_panics_on_six_seconds_of_double_load_and_does_not_shrink_in_panic():
    scaler = kpa({"target": 10}, context(1))
    for step in range(30):
        assert scaler.decide(seen(2.0 * step, 1, 5), 2.0 * step).targets == (1,)
    found = [scaler.decide(seen(60.0 + 2 * step, 1, 40), 60.0 + 2 * step).targets[0]
             for step in range(3)]
    assert found == [2, 3, 4]  # ceil of the mean of 3 values over 10
    calm = [scaler.decide(seen(66.0 + 2 * step, 4, 5), 66.0 + 2 * step).targets[0]
            for step in range(60)]
    assert calm[29] == 4  # 60 s since the panic's last sign
    assert calm[-1] == 2  # not below half of the ready pods at once


def test_knative_restarted_with_several_pods_does_not_shrink_on_empty_history():
    scaler = kpa({"target": 10}, context(5))
    assert scaler.decide(seen(0.0, 5, 0), 0.0).targets == (5,)


def test_knative_goes_to_zero_after_its_grace():
    scaler = kpa({"target": 10}, context(1))
    found = {2.0 * step: scaler.decide(seen(2.0 * step, 1, 0), 2.0 * step).targets[0]
             for step in range(20)}
    assert found[28.0] == 1
    assert found[30.0] == 0
    assert scaler.decide(seen(60.0, 0, 0, num_held=3), 60.0).targets == (1,)


def test_ray_acts_after_its_delay():
    scaler = ray({"target_ongoing_requests": 2, "upscale_delay_s": 30}, context(1))
    found = [scaler.decide(seen(float(at_s), 1, 8), float(at_s)).targets[0]
             for at_s in range(32)]
    assert found[:30] == [1] * 30
    assert found[30] == 4


def test_ray_starts_from_zero_at_once():
    scaler = ray({}, context(0))
    assert scaler.decide(seen(0.0, 0, 0), 0.0).targets == (0,)
    assert scaler.decide(seen(1.0, 0, 0, num_held=1), 1.0).targets == (1,)


def test_ray_reaches_zero_from_one_only():
    scaler = ray({"downscale_delay_s": 5, "downscale_to_zero_delay_s": 20}, context(4))
    target, found = 4, []
    for at_s in range(40):
        target = scaler.decide(seen(float(at_s), target, 0), float(at_s)).targets[0]
        found.append(target)
    assert found[5] == 1
    assert found[6:25] == [1] * 19
    assert found[-1] == 0


@pytest.mark.parametrize(("signal", "n", "ready", "found"), [
    (0.5, 4, 4, 4), (0.55, 4, 4, 4), (0.8, 4, 4, 6), (2.0, 3, 3, 11), (0.2, 6, 6, 3),
    (0.39, 6, 6, 6), (0.0, 3, 3, 0), (1.1, 4, 2, 4), (1.2, 4, 2, 5)])
def test_llm_d_wants(signal, n, ready, found):
    assert replicas_for(signal, n, ready) == found


def test_llm_d_scales_with_the_90th_percentile_of_the_last_minute():
    scaler = llm_d_slo({}, context(3, 3, 8))
    slow = [0] * (len(TTFT_BOUNDS_S) + 1)
    found, target = [], 3
    for step in range(9):
        slow[bucket(TTFT_BOUNDS_S, 4.0)] += 10
        totals = Totals(0, 0, 0, tuple(slow), (0,) * (len(TPOT_BOUNDS_S) + 1))
        found.append(scaler.decide(seen(15.0 * step, target, 9, totals=totals), 15.0 * step))
        target = found[-1].targets[0]
    # P90 of 2.5 to 5 s is 4.75 s; over 3 s that is 1.58; 3 replicas x 1.58 / 0.55.
    assert found[-1].terms["signal.0"] == pytest.approx(4.75 / 3)
    targets = [one.targets[0] for one in found]
    # Means of the signal: 0, 0.79 and 1.06 ask for 3, 5 and 6; the lowest of 30 s counts.
    assert targets[:3] == [3, 3, 5]
    assert targets[-1] == 8


def test_quantiles_interpolate_as_promql_does():
    counts = [0] * (len(TTFT_BOUNDS_S) + 1)
    assert histogram_quantile(0.9, TTFT_BOUNDS_S, tuple(counts)) is None
    counts[bucket(TTFT_BOUNDS_S, 3.0)] = 10
    assert histogram_quantile(0.5, TTFT_BOUNDS_S, tuple(counts)) == pytest.approx(3.75)
    counts[-1] = 90
    assert histogram_quantile(0.9, TTFT_BOUNDS_S, tuple(counts)) == 2560.0
