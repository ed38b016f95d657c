"""Periods in which the same replicas served, and the rates that a calibration corrects."""

from dataclasses import replace

import pytest

from penstock.core.slo import ServiceClass, Slo
from penstock.policy.scale.protocol import GroupFacts, Load, ReplicaRate, ScalerContext
from penstock.policy.scale.rates import ReplicaRates
from penstock.policy.scale.served import FEWEST, ServedPeriods, spread_of_lengths
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    Totals,
)


def totals(num, *, ttft_s=0.1, itl_s=0.01, prompt=500, answer=101):
    gaps = num * (answer - 1)
    return Totals(num, num * prompt, num * answer, (num,), (gaps,), num * ttft_s, gaps * itl_s)


def group(counters, *, ids=(0, 1), state="ready", since_s=-100.0, waiting=0):
    return SeenGroup(len(ids), tuple(
        SeenReplica(each, state, since_s, Gauges(3, waiting, 0.1), 0.0) for each in ids), counters)


def test_a_period_has_the_means_of_one_replica():
    periods = ServedPeriods()
    assert periods.add(group(totals(0)), 0.0) is None
    assert periods.add(group(totals(50)), 30.0) is None
    found = periods.add(group(totals(120)), 60.0)
    assert found.rate_per_s == pytest.approx(1.0)
    assert (found.prompt_tokens, found.output_tokens) == (500.0, 101.0)
    assert (found.ttft_s, found.itl_s) == pytest.approx((0.1, 0.01))
    assert (found.num_replicas, found.served_s, found.full) == (2, 160.0, False)
    assert periods.add(group(totals(130)), 90.0) is None


@pytest.mark.parametrize("broken", [
    group(None), group(totals(60), ids=(0, 1, 2)), group(totals(60), ids=(0, 3))])
def test_missing_counters_and_other_replicas_begin_anew(broken):
    periods = ServedPeriods()
    periods.add(group(totals(0)), 0.0)
    assert periods.add(broken, 30.0) is None
    assert periods.add(group(totals(120)), 60.0) is None
    assert periods.add(group(totals(300)), 120.0).rate_per_s == pytest.approx(1.5)


def test_few_answers_missing_sums_and_draining_replicas_tell_nothing():
    for last in (group(totals(FEWEST - 1)), group(replace(totals(100), ttft_sum_s=None)),
                 group(totals(100), state="draining")):
        periods = ServedPeriods()
        periods.add(replace(last, totals=totals(0)), 0.0)
        assert periods.add(last, 60.0) is None


def test_a_queue_at_every_replica_makes_a_period_full():
    periods = ServedPeriods()
    periods.add(group(totals(0)), 0.0)
    assert periods.add(group(totals(100), waiting=2), 60.0).full


def test_the_spread_of_lengths_is_that_of_recent_requests():
    demand = [SeenDemand("m", "c", 2, 0, 2, 0, recent=((100, 10), (300, 10)))]
    assert spread_of_lengths(demand) == (pytest.approx(0.25), 0.0)
    assert spread_of_lengths([]) == (0.0, 0.0)


def test_rates_follow_the_calibrated_speed_at_once():
    speed = [1.0]
    context = ScalerContext(
        (GroupFacts("m", 1, 9, 1, 1.0, 60.0, 1000),),
        {"c": ServiceClass("c", Slo(ttft_s=2.0))}, (lambda _: ReplicaRate(4.0, 5.0),),
        speeds=(lambda: speed[0],))
    rates = ReplicaRates([0], context)
    seen = Observation(0.0, (group(None),))
    assert rates.per_s == []
    rates.update(seen, (), {"c": Load(1.0, ((10, 10),))}, 0.0, measures=True)
    assert rates.per_s == pytest.approx([4.0])
    speed[0] = 0.5
    rates.update(seen, (), {}, 10.0, measures=False)
    assert rates.per_s == pytest.approx([2.0])
