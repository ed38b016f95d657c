"""Demand from the counters of engines."""

import pytest

from penstock.core.slo import Slo
from penstock.policy.scale.values import E2E_BOUNDS_S, TPOT_BOUNDS_S, TTFT_BOUNDS_S, Totals, bucket
from penstock.serving.scaling.engine_demand import LOST_S, EngineDemand, Shown


def counts(bounds_s, *durations_s):
    found = [0] * (len(bounds_s) + 1)
    for one in durations_s:
        found[bucket(bounds_s, one)] += 1
    return tuple(found)


def totals(num=0, prompt=0, output=0, ttft=(), gaps=(), e2e=()):
    return Totals(num, prompt, output, counts(TTFT_BOUNDS_S, *ttft), counts(TPOT_BOUNDS_S, *gaps),
                  sum(ttft), sum(gaps), 0, counts(E2E_BOUNDS_S, *e2e))


def demand(**slo):
    return EngineDemand("m", "chat", Slo(**slo))


def test_arrivals_are_what_is_finished_and_what_more_is_held():
    one = demand()
    assert one.add(0.0, {"a": Shown(100, 4)}, totals(), None).num_arrived == 4
    assert one.add(1.0, {"a": Shown(102, 9)}, totals(2), None).num_arrived == 11
    seen = one.add(2.0, {"a": Shown(102, 30)}, totals(2), None)
    assert (seen.num_arrived, seen.num_finished) == (32, 2), "an overload shows"
    assert one.add(3.0, {"a": Shown(102, 29)}, totals(2), None).num_arrived == 32, "one gave up"


def test_engines_come_go_and_begin_anew():
    one = demand()
    one.add(0.0, {"a": Shown(10, 0)}, totals(), None)
    assert one.add(1.0, {"a": Shown(12, 1), "b": Shown(50, 3)}, totals(), None).num_arrived == 6
    assert one.add(2.0, {"b": Shown(1, 1)}, totals(), None).num_arrived == 8, "b has restarted"
    assert one.add(3.0, {"a": Shown(90, 2), "b": Shown(1, 1)}, totals(), None).num_arrived == 10


def test_a_counter_of_arrivals_counts_what_no_engine_has_seen():
    one = demand()
    one.add(0.0, {"a": Shown(10, 2)}, totals(), {"g": 500.0})
    assert one.add(1.0, {"a": Shown(12, 2)}, totals(2), {"g": 560.0}).num_arrived == 62
    assert one.add(2.0, {"a": Shown(12, 2)}, totals(2), {"g": 5.0}).num_arrived == 67
    seen = one.add(3.0, {"a": Shown(12, 2)}, totals(2), {"g": 6.0, "new": 900.0})
    assert (seen.num_arrived, seen.num_lost) == (68, 0)


def test_requests_that_reach_no_engine_for_long_are_lost():
    one = demand()
    one.add(0.0, {"a": Shown(0, 0)}, totals(), {"g": 0.0})
    for minute in range(1, 12):
        seen = one.add(60.0 * minute, {"a": Shown(minute, 0)}, totals(minute), {"g": 3.0 + minute})
        assert seen.num_lost == (3 if 60.0 * minute >= LOST_S else 0)


def test_without_engines_the_last_sums_stay():
    one = demand()
    one.add(0.0, {"a": Shown(0, 0)}, totals(), {"g": 0.0})
    one.add(1.0, {"a": Shown(5, 0)}, totals(5, 50, 10), {"g": 5.0})
    seen = one.add(2.0, {}, None, {"g": 9.0})
    assert (seen.num_arrived, seen.num_finished, seen.prompt_tokens) == (9, 5, 50)


def test_lengths_are_the_means_of_what_ended():
    one = demand()
    one.add(0.0, {}, totals(10, 1000, 100), None)
    one.add(1.0, {}, totals(14, 1800, 140), None)
    seen = one.add(2.0, {}, totals(14, 1800, 140), None)
    assert seen.recent == ((100, 10), (200, 10))


@pytest.mark.parametrize(("slo", "found", "num_met"), [
    ({}, totals(10), 10),
    ({"ttft_s": 0.5}, totals(10, ttft=[0.1] * 6 + [0.6] * 4), 6),
    ({"ttft_s": 2.0}, totals(10, ttft=[2.0] * 10), 6),  # two thirds of the bucket from 1 to 2.5
    ({"ttft_s": 2.0}, totals(10), 10),
    ({"e2e_s": 10.0}, totals(10, e2e=[4.0] * 5 + [60.0] * 5), 5),
    ({"itl_s": 0.05}, totals(10, gaps=[0.04] * 8), 10),
    ({"itl_s": 0.05}, totals(10, gaps=[0.04, 0.09]), 0)])
def test_requests_in_time_are_those_of_the_histograms(slo, found, num_met):
    one = demand(**slo)
    one.add(0.0, {}, totals(), None)
    assert one.add(1.0, {}, found, None).num_met == num_met
