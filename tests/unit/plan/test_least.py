"""The least that any schedule needs."""

from dataclasses import replace
from math import ceil

import pytest

from penstock.fleet.sources import fleet_workload
from penstock.plan.demands import demands_of
from penstock.plan.document import full_document
from penstock.plan.judge import judge
from penstock.plan.least import least_needed
from penstock.plan.variants import variants_of
from penstock.report.model.plan_wording import least as told
from support.small_plans import BATCH, cards, fleet, lengths, planned, traffic

TIGHT = [{"name": "chat", "slo": {"ttft_s": 0.4, "itl_s": 0.03}}, BATCH]
MEAN = [{"name": "chat", "slo": {**TIGHT[0]["slo"], "itl": "mean", "percentile": 90}}, BATCH]
LOOSE = [{"name": "chat", "slo": {"e2e_s": 30, "percentile": 90}}, BATCH]
LOADS = {
    "short": traffic(rate_per_s=120, num_requests=400),
    "long prompts": traffic(rate_per_s=30, num_requests=200, lengths=lengths(3000, 20)),
    "long answers": traffic(rate_per_s=20, num_requests=150, lengths=lengths(100, 400)),
    "bursts": traffic(rate_per_s=40, num_requests=300, lengths=lengths(1000, 40), arrivals={
        "name": "gamma", "gap_cv": 3.0}),
    "one class": traffic(rate_per_s=60, num_requests=250, mix={"chat": 1.0})}


def case(load, classes, **sections):
    found = fleet(LOADS[load], service_classes=classes, accelerators=cards(a100_80gb=None),
                  plan={"tensor": [1]}, **sections)
    demand, = demands_of(found, (fleet_workload(found),))
    return found, demand


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("schedule", ["penstock", "sarathi", "fcfs"])
@pytest.mark.parametrize("classes", [TIGHT, LOOSE, MEAN], ids=["tight", "loose", "mean"])
def test_no_fleet_that_holds_is_below_the_bound(load, schedule, classes):
    found, demand = case(load, classes, policies={"schedule": schedule})
    least = least_needed(found, demand)
    assert least is not None
    group = variants_of(found, demand.model, demand.longest_tokens)[0][0].group
    below = ceil(least.accelerators) - 1
    assert below == 0 or not judge(found, demand, (replace(group, count=below),), seed=0).meets


def test_the_bound_is_not_empty():
    """It is above one replica where the requests keep more than one busy all the time."""
    found, demand = case("long prompts", TIGHT)
    least = least_needed(found, demand)
    assert least.accelerators >= 2
    assert least.cost_per_hour == pytest.approx(4.1 * least.accelerators, rel=0.2)


def test_more_requests_need_more():
    few, many = (least_needed(*case(load, TIGHT)) for load in ("one class", "short"))
    assert few.accelerators <= many.accelerators


def test_requests_that_may_miss_are_left_out():
    strict = [{"name": "chat", "slo": {"ttft_s": 0.4, "percentile": 100}}, BATCH]
    half = [{"name": "chat", "slo": {"ttft_s": 0.4, "percentile": 50}}, BATCH]
    all_of_them, some = (least_needed(*case("long prompts", classes)) for classes in (strict, half))
    assert some.cost_per_hour < all_of_them.cost_per_hour


def test_a_mean_gap_ends_a_request_when_strict_and_paced_tokens_do():
    """At 100 % no token may be late in any mode, so all of them end requests by the same time."""
    paced, strict, mean = (
        least_needed(*case("long answers", [{"name": "chat", "slo": {
            "ttft_s": 0.4, "itl_s": 0.03, "itl": itl, "percentile": 100}}, BATCH]))
        for itl in ("paced", "strict", "mean"))
    assert paced == strict == mean


def test_nothing_is_due_without_targets():
    found, demand = case("short", [{"name": "chat"}, {"name": "batch"}])
    assert least_needed(found, demand) is None


def test_a_plan_says_its_gap():
    plan = planned(LOADS["long prompts"], accelerators=cards(a100_80gb=None),
                   plan={"tensor": [1]})
    found = full_document(plan)["least"]
    used = sum(plan.checked.solution.accelerators.values())
    assert 1 <= found["accelerators"] <= used
    assert found["gap"] == pytest.approx(
        1.0 - found["cost_per_hour"] / plan.checked.solution.cost_per_hour)
    assert "Proven bound" in told({"least": found})[0]
    assert told({}) == []
