"""Block's provisioning on worked examples."""

import pytest

from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    E2E_BOUNDS_S,
    TTFT_BOUNDS_S,
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
    bucket,
)
from penstock.published.autoscalers.block import block, num_over, predicted_s
from penstock.published.autoscalers.laws import LawScaler
from penstock.published.autoscalers.lengths import Lengths

FACTS = GroupFacts("m", 1, 6, 1, 1.0, 60.0, 100_000, None, 48, 1000)


def step_s(features: StepFeatures) -> float:
    """10 ms, and 1 ms for each 100 prompt tokens and each sequence."""
    return 0.01 + features.prefill_tokens / 1e5 + features.decode_seqs / 1e3


def built(**settings: object) -> LawScaler:
    return block(settings, ScalerContext((FACTS,), {}, (), (step_s,)))


def replica(running: int = 0, waiting: int = 0, ahead: int = 0, used: float = 0.0) -> SeenReplica:
    return SeenReplica(0, "ready", 0.0, Gauges(running, waiting, used), 0.0, ahead)


def seen(now_s: float, *replicas: SeenReplica, arrived: int = 10, held: int = 0,
         totals: Totals | None = None) -> Observation:
    return Observation(now_s, (SeenGroup(len(replicas), replicas, totals),),
                       (SeenDemand("m", "chat", arrived, 100 * arrived, 5, 500, held),))


def test_an_idle_replica_computes_the_prompt_and_then_each_token() -> None:
    # 500 tokens: 15 ms. 10 further steps of one sequence: 11 ms each.
    assert predicted_s(replica(), FACTS, Lengths(500.0, 11.0), step_s) == pytest.approx(0.125)


def test_prompts_ahead_are_computed_first_beside_the_running_requests() -> None:
    # 2,300 tokens at 980 a step: 2 x (30 + 9.8) + 1 x (30 + 3.4) ms; then 22 sequences: 32 ms.
    found = predicted_s(replica(20, 1, 1800), FACTS, Lengths(500.0, 2.0), step_s)
    assert found == pytest.approx(0.0796 + 0.0334 + 0.032)


def test_without_room_the_requests_ahead_wait_for_others_to_end() -> None:
    # 48 run and 11 wait: 12 / 48 of 100 steps of 58 ms, and then 99 steps.
    found = predicted_s(replica(48, 11, 100), FACTS, Lengths(10.0, 100.0), step_s)
    assert found == pytest.approx(0.25 * 5.8 + 99 * 0.058)
    full = predicted_s(replica(8, 1, 0, used=1.0), FACTS, Lengths(10.0, 100.0), step_s)
    assert full == pytest.approx(0.25 * 100 * 0.02 + 99 * 0.02)


def test_each_request_that_no_replica_would_answer_in_time_takes_one() -> None:
    scaler = built(slo_s=0.5)
    late, free = replica(40, 0, 50_000), replica()
    # Mean lengths 100 and 100: an idle replica needs 11 ms and 99 x 11 ms.
    assert built(slo_s=1.2).decide(seen(0.0, free), 0.0).targets == (1,)
    assert scaler.decide(seen(0.0, late), 0.0).targets == (1,)  # nothing has arrived since
    assert scaler.decide(seen(1.0, late, arrived=12), 1.0).targets == (3,)
    assert scaler.decide(seen(2.0, late, arrived=12), 2.0).targets == (1,)
    assert scaler.decide(seen(3.0, late, arrived=99), 3.0).targets == (6,)
    patient = built(slo_s=1.2)
    patient.decide(seen(0.0, late, free), 0.0)
    assert patient.decide(seen(1.0, late, free, arrived=20), 1.0).targets == (2,)


def test_replicas_that_start_may_count() -> None:
    starting = SeenReplica(1, "starting", 0.0)
    late = replica(40, 0, 50_000)
    for counts, target in ((False, 6), (True, 2)):
        scaler = built(slo_s=0.5, counts_starting=counts)
        scaler.decide(seen(0.0, late, starting), 0.0)
        assert scaler.decide(seen(1.0, late, starting, arrived=20), 1.0).targets == (target,)
    scaler.decide(seen(2.0, late, arrived=20), 2.0)
    assert scaler.decide(seen(3.0, late, arrived=29), 3.0).targets == (2,)  # one at a time


@pytest.mark.parametrize(("signal", "bounds"), [("ttft", TTFT_BOUNDS_S),
                                                ("serving_time", E2E_BOUNDS_S)])
def test_each_late_answer_takes_one(signal, bounds) -> None:
    def totals(*seconds: float) -> Totals:
        counts = [0] * (len(bounds) + 1)
        for one in seconds:
            counts[bucket(bounds, one)] += 1
        empty = (0,) * (len(TTFT_BOUNDS_S) + 1), (0,) * (len(E2E_BOUNDS_S) + 1)
        ttft, e2e = (tuple(counts), empty[1]) if signal == "ttft" else (empty[0], tuple(counts))
        return Totals(0, 0, 0, ttft, (), e2e=e2e)

    scaler = built(signal=signal, slo_s=10.0)
    counted = [totals(30.0), totals(30.0, 4.0), totals(30.0, 4.0, 9.0, 11.0, 25.0)]
    assert [scaler.decide(seen(float(step), replica(), totals=one), float(step)).targets
            for step, one in enumerate(counted)] == [(1,), (1,), (3,)]


def test_latencies_of_a_bucket_around_the_limit_do_not_count() -> None:
    counts = (1, 2, 4, 8)
    assert num_over(2.0, (1.0, 2.0, 3.0), counts, (0, 0, 0, 0)) == 12
    assert num_over(1.5, (1.0, 2.0, 3.0), counts, (0, 0, 0, 1)) == 11


def test_never_fewer_and_missing_data_hold() -> None:
    calm = built().decide(seen(9.0, replica(), replica(), replica()), 9.0)
    assert calm.targets == (3,)
    assert built(signal="ttft").decide(seen(0.0, replica(), replica()), 0.0).targets == (2,)
    blind = Observation(0.0, (SeenGroup(2, (replica(), replica())),), None)
    assert built().decide(blind, 0.0).targets == (2,)
    dark = SeenReplica(0, "ready", 0.0)
    assert built().decide(seen(0.0, dark), 0.0).targets == (1,)


def test_from_zero_a_request_that_waits_takes_one() -> None:
    assert built().decide(seen(0.0, held=1), 0.0).targets == (1,)
