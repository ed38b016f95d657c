"""The Workload Variant Autoscaler on worked examples: saturation in percent, and its HPA."""

import pytest

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
from penstock.published.autoscalers.wva import Peak
from penstock.published.autoscalers.wva_percent import (
    PercentSettings,
    Spare,
    safe_without_one,
    spare_of,
    wva_percent,
)

COSTS = (2.0, 5.0)


def built(floor: int = 1, ceiling: int = 100, **settings: object) -> LawScaler:
    facts = tuple(GroupFacts("m", floor, ceiling, 1, cost, 60.0, 1000) for cost in COSTS)
    return wva_percent({"window_s": 0.0, **settings}, ScalerContext(facts, {}))


def group(loads: list[tuple[float, int]], starting: int = 0, finished: int = 0) -> SeenGroup:
    ready = [SeenReplica(number, "ready", 0.0, Gauges(1, waiting, share), 0.0)
             for number, (share, waiting) in enumerate(loads)]
    new = [SeenReplica(len(loads) + number, "starting", 0.0) for number in range(starting)]
    return SeenGroup(len(loads) + starting, (*ready, *new), Totals(finished, 0, 0, (), ()))


def seen(now_s: float, *groups: SeenGroup, num_held: int = 0) -> Observation:
    return Observation(now_s, groups, (SeenDemand("m", "chat", 0, 0, 0, 0, num_held),))


def decided(scaler: LawScaler, *groups: SeenGroup, now_s: float = 0.0) -> tuple[int, ...]:
    return scaler.decide(seen(now_s, *groups), now_s).targets


def test_saturated_replicas_have_no_say_in_the_spare() -> None:
    peaks = [Peak(0.8, 0), Peak(0.1, 5), Peak(0.5, 1), Peak(0.7, 0)]
    found = spare_of(peaks, PercentSettings())
    assert found.num_replicas == 2
    assert (found.kv, found.queue) == pytest.approx((0.2, 4.5))  # of 0.3, 0.1 and of 4, 5
    assert spare_of(peaks[:2], PercentSettings()) == Spare(0, 0.0, 0.0)


@pytest.mark.parametrize(("spare", "safe"), [
    (Spare(1, 0.8, 5.0), False),
    (Spare(2, 0.46, 5.0), True),  # load 0.34 x 2 = 0.68 leaves 0.12
    (Spare(2, 0.44, 5.0), False),
    (Spare(2, 0.8, 4.0), True),  # queue 1 x 2 leaves 3
    (Spare(2, 0.8, 3.9), False),
    (Spare(4, 0.28, 5.0), True),  # 0.52 x 4 / 3 = 0.693
])
def test_one_less_is_safe(spare: Spare, safe: bool) -> None:
    assert safe_without_one(spare, PercentSettings()) is safe


def test_little_spare_adds_a_replica_of_the_cheapest_variant() -> None:
    assert decided(built(), group([(0.75, 0)]), group([(0.75, 0)])) == (2, 1)
    assert decided(built(), group([(0.1, 3)]), group([(0.1, 3)])) == (2, 1)  # queue spare 2
    assert decided(built(), group([(0.9, 0)]), group([(0.9, 0)])) == (2, 1)  # all saturated


def test_much_spare_removes_a_replica_of_the_dearest_variant() -> None:
    assert decided(built(), group([(0.1, 0)] * 2), group([(0.1, 0)] * 2)) == (2, 1)
    assert decided(built(), group([(0.1, 0)] * 2), group([(0.1, 0)])) == (1, 1)
    assert decided(built(), group([(0.5, 0)]), group([(0.5, 0)])) == (1, 1)


def test_every_variant_waits_while_any_changes() -> None:
    assert decided(built(), group([(0.9, 9)]), group([(0.9, 9)], starting=1)) == (1, 2)
    scaler = built(window_s=240.0)
    found = {at_s: decided(scaler, group([(0.75, 0)]), group([(0.75, 0)]), now_s=at_s)
             for at_s in (0.0, 15.0, 60.0, 240.0)}
    # The gauge asks for 2 and stays at 2; the HPA follows after its window.
    assert found == {0.0: (1, 1), 15.0: (1, 1), 60.0: (1, 1), 240.0: (2, 1)}


def test_the_hpa_waits_for_its_window() -> None:
    scaler = built(window_s=240.0)
    calm, busy = group([(0.5, 0)]), group([(0.75, 0)])
    found = {}
    for step in range(26):
        one = calm if step < 4 else busy
        found[15.0 * step] = decided(scaler, one, one, now_s=15.0 * step)
    assert found[60.0] == (1, 1)  # wanted from here on
    assert found[270.0] == (1, 1)  # 45 s still has a lower recommendation
    assert found[285.0] == (2, 1)


def test_the_peak_of_a_minute_counts() -> None:
    scaler = built()
    for at_s, share in ((0.0, 0.5), (15.0, 0.75), (30.0, 0.5), (45.0, 0.5)):
        assert decided(scaler, group([(share, 0)]), group([(0.75, 0)]), now_s=at_s) == (1, 1)
    found = scaler.decide(seen(60.0, group([(0.5, 0)]), group([(0.75, 0)])), 60.0)
    assert found.terms["kv_spare"] == pytest.approx(0.05)
    assert found.targets == (2, 1)


def test_missing_gauges_hold() -> None:
    blind = SeenGroup(3, tuple(SeenReplica(number, "ready", 0.0) for number in range(3)))
    assert decided(built(), group([(0.9, 9)]), blind) == (1, 3)


def test_bounds_hold() -> None:
    full = group([(0.9, 9)] * 2)
    assert decided(built(1, 2), full, group([(0.9, 9)])) == (2, 2)  # the cheapest is full
    assert decided(built(1, 2), full, full) == (2, 2)
    idle = group([(0.0, 0)] * 2)
    assert decided(built(2, 4), idle, idle) == (2, 2)


def test_zero_after_the_retention_and_back_when_requests_wait() -> None:
    scaler = built(0, retention_s=120.0)
    busy = [group([(0.5, 0)], finished=7), group([(0.5, 0)])]
    found = {15.0 * step: decided(scaler, *busy, now_s=15.0 * step) for step in range(9)}
    assert found[105.0] == (1, 1)
    assert found[120.0] == (0, 0)
    none = (SeenGroup(0, ()), SeenGroup(0, ()))
    assert decided(scaler, *none, now_s=121.0) == (0, 0)
    assert scaler.decide(seen(122.0, *none, num_held=1), 122.0).targets == (1, 1)
    answering = built(0, retention_s=120.0)
    for step in range(20):
        found[step] = decided(answering, group([(0.5, 0)], finished=step), busy[1],
                              now_s=15.0 * step)
    assert found[19] == (1, 1)
