"""llm-d's token-aware law on the worked examples of its summary."""

import pytest

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)
from penstock.published.autoscalers.laws import LawScaler
from penstock.published.autoscalers.llm_d_tokens import guarded, llm_d_tokens, peak_prefill_per_s

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=8.0))}


def built(floor: int = 1, ceiling: int = 100, **settings: object) -> LawScaler:
    facts = GroupFacts("m", floor, ceiling, 1, 1.0, 60.0, 1000)
    return llm_d_tokens({"peak_prefill_per_s": 2696.0, **settings},
                        ScalerContext((facts,), CLASSES))


def seen(now_s: float, loads: list[tuple[int, float]], starting: int = 0, *, held: int = 0,
         prompt: int = 0, totals: Totals | None = None) -> Observation:
    ready = [SeenReplica(number, "ready", 0.0, Gauges(1, 0, share), now_s, tokens)
             for number, (tokens, share) in enumerate(loads)]
    new = [SeenReplica(len(loads) + number, "starting", 0.0) for number in range(starting)]
    return Observation(now_s, (SeenGroup(len(loads) + starting, (*ready, *new), totals),),
                       (SeenDemand("m", "chat", 1, prompt, 0, 0, held),))


def decided(scaler: LawScaler, *args: object, now_s: float = 0.0, **more: object) -> int:
    return scaler.decide(seen(now_s, *args, **more), now_s).targets[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(("tokens", "replicas"), [
    (1229, 1), (2458, 1),  # 0.46 and 0.91 s of backlog over 1.5 s
    (6554, 2), (11469, 3),  # 2.43 and 4.25 s
])
def test_prefill(tokens: int, replicas: int) -> None:
    assert decided(built(), [(tokens, 0.1)]) == replicas


def test_decode_and_the_larger_of_both() -> None:
    assert decided(built(), [(0, 0.9), (0, 0.95), (0, 0.95)]) == 4  # 2.8 / 0.8 is 3.5
    assert decided(built(), [(0, 0.85)]) == 1  # 1.06 replicas: within the tolerance
    assert decided(built(), [(20_000, 0.9)]) == 5  # 4.95 of prefill, 1.1 of decode


@pytest.mark.parametrize(("demand", "current", "pending", "asked"), [
    (3, 4, 2, 3), (4, 4, 2, 4), (6, 4, 1, 5), (5, 4, 3, 4), (9, 4, 0, 9)])
def test_the_guard_credits_replicas_that_start(demand, current, pending, asked) -> None:
    assert guarded(demand, current, pending) == asked


def test_the_guard_in_the_loop() -> None:
    # 20,000 tokens ask for 5. Of 4 replicas 3 still start: no more than there are.
    assert decided(built(), [(20_000, 0.1)], 3) == 4
    assert decided(built(overshoot_guard=False), [(20_000, 0.1)], 3) == 5


def test_the_backlog_may_come_from_the_objective() -> None:
    # 8 s less 8,192 tokens at 2,696 a second is 4.96 s; 65 % of that are 3.22 s.
    for share, replicas in ((1.0, 2), (0.65, 3)):
        assert decided(built(slo_share=share), [(24_000, 0.1)], prompt=8192) == replicas  # 8.9 s
    # No backlog is right where the prompt alone takes longer: 1.5 s is kept.
    assert decided(built(slo_share=1.0), [(6554, 0.1)], prompt=30_000) == 2


def test_cached_prompts_are_no_backlog() -> None:
    totals = Totals(0, 1000, 0, (), (), cached_tokens=500)
    assert decided(built(), [(12_000, 0.1)], totals=totals) == 2  # 6,000 tokens: 2.2 s


def test_one_replica_in_so_many_seconds() -> None:
    scaler = built(up_period_s=180.0, overshoot_guard=False)
    assert decided(scaler, [(50_000, 0.1)]) == 2
    assert decided(scaler, [(50_000, 0.1)] * 2, now_s=165.0) == 2
    assert decided(scaler, [(50_000, 0.1)] * 2, now_s=180.0) == 3


def test_the_rate_is_that_of_a_full_step() -> None:
    facts = GroupFacts("m", 1, 1, 1, 1.0, 60.0, 1000, None, 64, 2000)
    asked: list[StepFeatures] = []

    def step_s(features: StepFeatures) -> float:
        asked.append(features)
        return 0.25

    assert peak_prefill_per_s(facts, step_s) == 8000.0
    assert asked == [StepFeatures(2000, 2e6, 0, 0)]


def test_missing_data_hold() -> None:
    dark = SeenReplica(0, "ready", 0.0, Gauges(1, 0, 0.9), 0.0)  # without tokens in flight
    observation = Observation(0.0, (SeenGroup(2, (dark, dark)),), ())
    assert built().decide(observation, 0.0).targets == (2,)
    blind = seen(0.0, [(90_000, 0.9)])
    assert built().decide(Observation(0.0, blind.groups, None), 0.0).targets == (1,)
    with pytest.raises(InputError, match="peak_prefill_per_s"):
        llm_d_tokens({}, ScalerContext((GroupFacts("m", 1, 1, 1, 1.0, 60.0, 1),), CLASSES))


def test_bounds_and_zero() -> None:
    assert decided(built(2, 3), [(90_000, 0.1)] * 2) == 3
    scaler = built(0, cooldown_s=30.0, polling_s=15.0)
    assert decided(scaler, [(10, 0.1)]) == 1
    assert decided(scaler, [(0, 0.0)], now_s=15.0) == 1
    assert decided(scaler, [(0, 0.0)], now_s=30.0) == 0
    assert decided(scaler, [], now_s=45.0) == 0
    assert decided(scaler, [], now_s=60.0, held=1) == 1
