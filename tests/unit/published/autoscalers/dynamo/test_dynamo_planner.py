"""Dynamo's planner: both loops, their floors, holds and budget."""

import pytest

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    ScalingDecision,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)
from penstock.published.autoscalers.dynamo.planner import dynamo
from penstock.published.autoscalers.laws import LawScaler

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=0.5, itl_s=0.05))}


def step_s(features: StepFeatures) -> float:
    """10 ms, 10 us for each prompt token and 1 us for each KV token."""
    return 0.01 + 1e-5 * features.prefill_tokens + 1e-6 * features.decode_context_tokens


def facts(floor: int = 1, ceiling: int = 20, width: int = 1) -> GroupFacts:
    return GroupFacts("m", floor, ceiling, 1, 1.0, 60.0, 10_000, None, 8, 1000, width)


def built(*groups: GroupFacts, **settings: object) -> LawScaler:
    groups = groups or (facts(),)
    return dynamo(settings, ScalerContext(groups, CLASSES, (), (step_s,) * len(groups)))


def group(loads: list[float], *, starting: int = 0, inflight: int = 0, waiting: int = 0,
          first: int = 0) -> SeenGroup:
    ready = [SeenReplica(number, "ready", 0.0, Gauges(4, waiting, share), 0.0, inflight)
             for number, share in enumerate(loads)]
    new = [SeenReplica(len(loads) + number, "starting", 0.0) for number in range(starting)]
    return SeenGroup(len(loads) + starting, (*ready, *new), Totals(0, 0, 0, (first,), ()))


def decided(scaler: LawScaler, *groups: SeenGroup, now_s: float = 0.0, arrived: int = 0,
            prompt: int = 100, output: int = 10) -> ScalingDecision:
    demand = SeenDemand("m", "chat", arrived, prompt * arrived, arrived, output * arrived)
    return scaler.decide(Observation(now_s, groups, (demand,)), now_s)


def test_thresholds_move_by_one() -> None:
    scaler = built()
    assert decided(scaler, group([0.9], inflight=2000, waiting=1)).targets == (2,)
    assert decided(scaler, group([0.9], inflight=2000)).targets == (1,)  # none waits
    found = decided(scaler, group([0.5, 0.5]))
    assert (found.targets, found.reason) == ((1,), "scale down")
    assert decided(built(optimization_target="latency"), group([0.45])).targets == (2,)


def test_holds_have_reasons() -> None:
    found = decided(built(), group([1.0], inflight=90, waiting=9, starting=1))
    assert (found.targets, found.reason) == ((2,), "scaling in progress")
    dark = SeenGroup(1, (SeenReplica(0, "ready", 0.0),))
    assert (decided(built(), dark).targets, decided(built(), dark).reason) == ((1,), "no load data")
    none = built().decide(Observation(0.0, (group([1.0]),), None), 0.0)
    assert (none.targets, none.reason) == ((1,), "no traffic data")
    sla = decided(built(optimization_target="sla"), group([0.9]))
    assert (sla.targets, sla.reason) == ((1,), "insufficient data")  # no lengths yet


def throughput(scaler: LawScaler, *groups: SeenGroup, arrived: int, **more: int
               ) -> ScalingDecision:
    decided(scaler, *groups, now_s=0.0, **more)
    return decided(scaler, *groups, now_s=180.0, arrived=arrived, **more)


def test_the_slow_loop_serves_the_forecast() -> None:
    """Eight requests of 105 tokens: 80 prompt tokens a step, 10 + 0.8 + 0.84 ms, 68.7 / s."""
    scaler = built(optimization_target="sla", enable_load_scaling=False)
    found = throughput(scaler, group([0.1]), arrived=36_000)  # 200 / s
    assert found.terms["engine_per_s.0"] == pytest.approx(8 / (10 * 0.01164))
    assert found.terms["forecast_per_s"] == pytest.approx(200.0)
    assert found.targets == (3,)
    later = decided(scaler, group([0.1] * 3), now_s=185.0, arrived=37_000)
    assert later.targets == (3,)
    silent = decided(scaler, group([0.1] * 3), now_s=360.0, arrived=36_000)
    assert (silent.targets, silent.reason) == ((3,), "no traffic data")


def test_the_slow_loop_bounds_the_fast_one() -> None:
    scaler = built(optimization_target="sla")
    found = throughput(scaler, group([0.1] * 3), arrived=36_000)
    assert found.targets == (3,)  # three are needed, though two would do now
    assert found.reason == "lower bound set; scale down capped by throughput"
    assert decided(scaler, group([0.1] * 2), now_s=185.0, arrived=36_900).targets == (3,)
    free = built(optimization_target="sla", enable_throughput_scaling=False)
    assert throughput(free, group([0.1] * 3), arrived=36_000).targets == (2,)


def test_objectives_of_the_classes_or_of_the_settings_count() -> None:
    # 9,000 KV tokens: a step takes 19 ms and more, and so much a prompt waits.
    assert throughput(built(optimization_target="sla"), group([0.9]), arrived=90).targets == (1,)
    assert throughput(built(optimization_target="sla", itl_s=0.015), group([0.9]),
                      arrived=90).targets == (2,)
    assert throughput(built(optimization_target="sla", ttft_s=0.015), group([0.9]),
                      arrived=90).targets == (2,)


def test_groups_of_a_model_share_the_demand_as_they_answered() -> None:
    scaler = built(facts(), facts(), optimization_target="sla", enable_load_scaling=False)
    decided(scaler, group([0.1]), group([0.1]))
    found = decided(scaler, group([0.1], first=27_000), group([0.1], first=9000), now_s=180.0,
                    arrived=36_000)
    assert found.targets == (3, 1)  # 150 and 50 requests a second of 68.7


def test_live_steps_correct_the_fit() -> None:
    scaler = built(optimization_target="sla", enable_load_scaling=False)
    totals = Totals(0, 0, 0, (0,), (0,))
    for step in range(37):
        # Steps of twice the believed time: 1,000 gaps of 40 ms in 5 s at 9,000 KV tokens.
        totals = Totals(0, 0, 0, (0,), (1000 * step,), tpot_sum_s=40.0 * step)
        one = SeenGroup(1, (SeenReplica(0, "ready", 0.0, Gauges(8, 0, 0.9), 0.0, 0),), totals)
        found = decided(scaler, one, now_s=5.0 * step, arrived=1000 * step)
    assert totals.tpot_sum_s == 1440.0
    assert found.terms["engine_per_s.0"] < 68.0


def test_bounds_budget_and_zero() -> None:
    full = group([0.9] * 2, inflight=2000, waiting=1)
    assert decided(built(facts(1, 2)), full).targets == (2,)
    idle = group([0.1] * 2)
    assert decided(built(facts(2, 5)), idle).targets == (2,)
    assert decided(built(facts(0)), group([])).targets == (1,)  # never below one endpoint
    pair = (facts(width=2), facts())
    assert decided(built(*pair, max_gpu_budget=9), full, full).targets == (3, 3)
    assert decided(built(*pair, max_gpu_budget=8), full, full).targets == (2, 3)
    assert decided(built(*pair, max_gpu_budget=4), idle, idle).targets == (1, 1)


def test_a_planner_without_loops_is_refused() -> None:
    with pytest.raises(InputError, match="enable_load_scaling"):
        built(enable_load_scaling=False, enable_throughput_scaling=False)
