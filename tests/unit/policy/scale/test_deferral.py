"""When a gateway sends the requests that it holds back."""

from math import inf

import pytest

from penstock.core.power import CarbonIntensity
from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.protocol import GroupFacts, ReplicaRate, ScalerContext
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
)

CLASSES = {"chat": ServiceClass("chat", Slo(ttft_s=3.0)),
           "batch": ServiceClass("batch", Slo(ttft_s=900.0), defer_s=600.0),
           "night": ServiceClass("night", Slo(ttft_s=9000.0), defer_s=6000.0)}
CLEANER = CarbonIntensity((0.0, 300.0, 1500.0), (400.0, 100.0, 400.0))


def context(classes=None):
    group = GroupFacts("m", 0, 10, 1, 1.0, 60.0, 1000, classes)
    return ScalerContext((group,), CLASSES, (lambda _: ReplicaRate(2.0, 2.5),))


def deferral(carbon=None, epoch_s=0.0):
    return Deferral(context(), carbon, epoch_s)


def items(sent):
    return [one.item for one in sent]


def seen(now_s, arrived, ready=2, waiting=0, *, metrics=True):
    gauges = Gauges(3, waiting, 0.2) if metrics else None
    replicas = tuple(SeenReplica(number, "ready", 0.0, gauges) for number in range(ready))
    demand = SeenDemand("m", "chat", arrived, 0, arrived, 0, recent=((100, 10),))
    return Observation(now_s, (SeenGroup(ready, replicas),), (demand,))


def spare(found, rate, **more):
    """Spare capacity after a minute of arrivals at a rate."""
    for now_s in range(0, 70, 10):
        spare_per_s = found.spare_per_s(seen(float(now_s), round(rate * now_s), **more),
                                        float(now_s))
    return spare_per_s[0]


def test_only_deferrable_classes_are_held_back():
    found = deferral()
    assert [found.defers("m", name) for name in CLASSES] == [False, True, True]
    assert found.defers("", "batch")  # the only model
    assert not found.defers("other", "batch")


def test_without_spare_capacity_a_request_is_sent_when_its_slack_ends():
    found = deferral()
    found.hold(1, "m", "batch", 10.0)
    found.hold(2, "m", "night", 11.0)
    assert found.next_s(10.0) == 610.0
    assert found.send(609.9) == []
    assert [tuple(one) for one in found.send(610.0)] == [(1, False)]
    assert (found.num_held, found.next_s(610.0)) == (1, 6011.0)
    assert items(found.send(6011.0)) == [2]
    assert (found.num_held, found.next_s(6011.0)) == (0, inf)


def test_spare_capacity_is_filled_in_order_of_the_end_of_slack():
    found = deferral()
    for number in range(5):
        found.hold(number, "m", "night", 0.0)
    found.hold(5, "m", "batch", 0.0)
    found.allow([2.0])
    assert found.next_s(0.0) == 0.0
    sent = found.send(0.0) + found.send(1.0)
    assert items(sent) == [5, 0, 1, 2]
    assert all(one.deferred for one in sent)
    # Capacity of the past is gone.
    assert items(found.send(100.0)) == [3, 4]


def test_a_request_whose_client_left_is_forgotten():
    found = deferral()
    found.remove(found.hold(1, "m", "batch", 0.0))
    assert (found.num_held, found.send(1e4)) == (0, [])


def test_requests_wait_for_cleaner_electricity_within_their_slack():
    found = deferral(CLEANER)
    found.allow([1.0])
    found.hold(1, "m", "batch", 0.0)
    assert found.send(1.0) == []
    assert items(found.send(300.0)) == [1]
    late = deferral(CLEANER, epoch_s=1600.0)  # nothing cleaner comes
    late.allow([1.0])
    late.hold(1, "m", "batch", 0.0)
    assert items(late.send(1.0)) == [1]


def test_the_fleet_grows_for_as_many_as_end_the_backlog_within_the_slack():
    found = deferral()
    for number in range(1200):
        found.hold(number, "m", "night", 0.0)
    found.allow([4.0])
    sent = [one for second in range(100) for one in found.send(float(second))]
    assert len(sent) == pytest.approx(400, abs=8)
    # 1,200 requests within 6,000 s are one in 5 s.
    assert sum(not one.deferred for one in sent) == pytest.approx(18, abs=3)


def test_in_clean_times_the_fleet_grows_for_as_many_as_end_the_backlog():
    found = deferral(CLEANER)
    for number in range(1200):
        found.hold(number, "m", "night", 0.0)
    found.allow([4.0])
    sent = [one for second in range(300, 400) for one in found.send(float(second))]
    # 1,200 requests within the 1,200 s that are clean are one in a second.
    assert len(sent) == pytest.approx(400, abs=8)
    assert sum(not one.deferred for one in sent) == pytest.approx(90, abs=12)


def test_spare_capacity_is_what_ready_replicas_serve_in_time_less_what_comes():
    assert spare(deferral(), 1.0) == pytest.approx(0.9 * 2 * 2.0 - 1.0)
    assert spare(deferral(), 5.0) == 0.0
    assert spare(deferral(), 1.0, waiting=1) == 0.0
    assert spare(deferral(), 1.0, ready=0) == 0.0
    # With a series, one replica may be asked for.
    assert spare(deferral(CLEANER), 1.0, ready=0) == pytest.approx(0.8)


def test_missing_metrics_are_no_spare_capacity():
    assert spare(deferral(), 1.0, metrics=False) == 0.0
    found = deferral()
    assert found.spare_per_s(Observation(0.0, (SeenGroup(1, ()),), None), 0.0) == [0.0]
    assert found.spare_per_s(Observation(9.0, (SeenGroup(1, ()),), ()), 9.0) == [0.0]


def test_groups_of_other_classes_do_not_count():
    found = Deferral(context(frozenset({"chat"})), None)
    assert not found.defers("m", "batch")
