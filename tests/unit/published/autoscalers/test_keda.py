"""KEDA's triggers on worked examples."""

import pytest

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
)
from penstock.published.autoscalers.keda import keda
from penstock.published.autoscalers.laws import LawScaler


def built(floor: int = 0, **settings: object) -> LawScaler:
    return keda(settings, ScalerContext((GroupFacts("m", floor, 100, 2, 1.0, 60.0, 1000),), {}))


def seen(now_s: float, loads: list[tuple[int, int, float]], num_held: int = 0) -> Observation:
    replicas = tuple(SeenReplica(number, "ready", 0.0, Gauges(*load), now_s)
                     for number, load in enumerate(loads))
    return Observation(now_s, (SeenGroup(len(loads), replicas),),
                       (SeenDemand("m", "chat", 0, 0, 0, 0, num_held),))


@pytest.mark.parametrize(("loads", "target"), [
    ([(16, 0, 0.1), (16, 0, 0.1)], 2),
    ([(24, 0, 0.1), (24, 0, 0.1)], 3),  # 48 running over 16
    ([(17, 0, 0.1), (17, 0, 0.1)], 2),  # within the tolerance
    ([(16, 5, 0.1), (16, 0, 0.1)], 5),  # 5 waiting over 1: the larger counts
])
def test_the_largest_trigger_counts(loads, target) -> None:
    assert built().decide(seen(0.0, loads), 0.0).targets == (target,)


def test_saturation_is_the_larger_of_queue_and_cache() -> None:
    scaler = built(triggers=["saturation"])
    # (10 / 5 + 0.8 / 0.8) / 2 = 1.5 times 2 replicas
    assert scaler.decide(seen(0.0, [(9, 10, 0.1), (9, 0, 0.8)]), 0.0).targets == (3,)


def test_zero_and_back() -> None:
    scaler = built(cooldown_s=60.0)
    assert scaler.decide(seen(0.0, [(3, 0, 0.1)]), 0.0).targets == (1,)
    idle = {at_s: scaler.decide(seen(at_s, [(0, 0, 0.0)]), at_s).targets[0]
            for at_s in (15.0, 30.0, 45.0, 60.0, 75.0)}
    assert idle[45.0] == 1
    assert idle[60.0] == 0  # 60 s after the last active poll
    assert scaler.decide(seen(80.0, [], 0), 80.0).targets == (0,)
    assert scaler.decide(seen(120.0, [], 4), 120.0).targets == (1,)


def test_a_group_with_a_floor_never_reaches_zero() -> None:
    scaler = built(floor=1, cooldown_s=0.0)
    assert scaler.decide(seen(900.0, [(0, 0, 0.0)]), 900.0).targets == (1,)


def test_a_missing_metric_changes_nothing() -> None:
    scaler = built()
    blind = Observation(0.0, (SeenGroup(4, (SeenReplica(0, "ready", 0.0),)),), ())
    assert scaler.decide(blind, 0.0).targets == (4,)
