"""AIBrix's APA on worked examples of its law."""

import pytest

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica
from penstock.published.autoscalers.aibrix import ApaSettings, apa, recommended
from penstock.published.autoscalers.laws import LawScaler


def built(floor: int = 1, ceiling: int = 100, **settings: object) -> LawScaler:
    facts = GroupFacts("m", floor, ceiling, 1, 1.0, 60.0, 1000)
    return apa({"target": 10.0, **settings}, ScalerContext((facts,), {}))


def seen(now_s: float, running: list[int | None]) -> Observation:
    replicas = tuple(
        SeenReplica(number, "ready", 0.0, None if one is None else Gauges(one, 0, 0.1), now_s)
        for number, one in enumerate(running))
    return Observation(now_s, (SeenGroup(len(running), replicas),))


@pytest.mark.parametrize(("ratio", "current", "pods"), [
    (1.1, 10, 10), (1.11, 10, 12), (0.9, 10, 10), (0.89, 10, 9),  # tolerances are strict
    (1.5, 3, 5),  # ceil(4.5)
    (5.0, 3, 6),  # at most ceil(2 x 3)
    (0.1, 5, 2),  # at least floor(5 / 2)
    (0.7, 5, 4),  # ceil(3.5)
])
def test_the_law(ratio, current, pods) -> None:
    assert recommended(ratio, current, ApaSettings(10.0)) == pods


def test_the_mean_of_the_window_counts() -> None:
    scaler = built(observe_window_s=30.0)
    assert scaler.decide(seen(0.0, [10]), 0.0).targets == (1,)
    found = scaler.decide(seen(10.0, [13]), 10.0)
    assert found.terms["num_running.0"] == pytest.approx(11.5)
    assert found.targets == (2,)
    # Values of 20, 30 and 40 s: 18, 18 and 18.
    for at_s in (20.0, 30.0, 40.0):
        found = scaler.decide(seen(at_s, [18, 18]), at_s)
    assert found.terms["num_running.0"] == pytest.approx(18.0)


def test_a_shrinking_group_takes_the_lowest_recommendation_of_the_cooldown_as_published() -> None:
    scaler = built(observe_window_s=10.0)
    scaler.decide(seen(0.0, [2] * 8), 0.0)  # recommends 4
    assert scaler.decide(seen(10.0, [6] * 8), 10.0).targets == (4,)  # not ceil(8 x 0.6)
    assert scaler.decide(seen(310.0, [6] * 8), 310.0).targets == (5,)


def test_a_cooldown_that_delays_takes_the_highest() -> None:
    scaler = built(observe_window_s=10.0, as_published=False)
    scaler.decide(seen(0.0, [10] * 8), 0.0)
    found = {at_s: scaler.decide(seen(at_s, [6] * 8), at_s).targets[0]
             for at_s in (10.0, 290.0, 300.0)}
    assert found == {10.0: 8, 290.0: 8, 300.0: 5}


@pytest.mark.parametrize(("running", "pods"), [([20] * 4, 5), ([1] * 4, 3), ([10] * 2, 3),
                                               ([10] * 7, 5)])
def test_bounds_hold(running, pods) -> None:
    assert built(3, 5).decide(seen(0.0, running), 0.0).targets == (pods,)


def test_pods_without_the_metric_are_left_out_and_none_at_all_holds() -> None:
    assert built().decide(seen(0.0, [15, None]), 0.0).targets == (3,)  # ceil(2 x 1.5)
    assert built().decide(seen(0.0, [None, None]), 0.0).targets == (2,)
    assert built(0).decide(seen(0.0, []), 0.0).targets == (0,)
