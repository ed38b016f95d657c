import pytest

from penstock.report.model import plan_wording, wording
from support.plan_documents import plan_document


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 W"), (72.0, "72 W"), (999.4, "999 W"), (999.5, "1 kW"), (1638.0, "1.64 kW"),
    (None, wording.ABSENT)])
def test_power(value, text):
    assert plan_wording.power(value) == text


@pytest.mark.parametrize(("changes", "text"), [
    ({}, "3 replicas for $4.25 an hour meet every objective of what is served, but 2 of 3 demands "
         "are not served in full."),
    ({"unserved": ["huge"]}, "1 of 3 demands is not served in full."),
    ({"unserved": []}, "3 replicas for $4.25 an hour meet every objective in simulation."),
    ({"holds": False}, "3 replicas for $4.25 an hour still miss an objective in simulation"),
    ({"demands": []}, "No demand can be served with these accelerators."),
])
def test_the_headline_says_what_it_costs_and_whether_it_holds(changes, text):
    assert text in plan_wording.headline(plan_document(**changes))


def test_one_replica_is_told_in_the_singular():
    one = [{"name": "a", "replicas": {"x": 1}}]
    assert plan_wording.headline(plan_document(demands=one, unserved=[])) \
        == "1 replica for $4.25 an hour meets every objective in simulation."
    assert "still misses" in plan_wording.headline(plan_document(demands=one, holds=False))


@pytest.mark.parametrize(("demand", "verdict"), [
    ({"replicas": {}}, (False, "not served")),
    ({"replicas": {"a": 1}, "meets": None}, (None, "not simulated")),
    ({"replicas": {"a": 1}, "meets": False, "served_share": 1.0}, (False, "misses")),
    ({"replicas": {"a": 1}, "meets": True, "served_share": 1.0}, (True, "in full")),
    ({"replicas": {"a": 1}, "meets": True, "served_share": 0.9999}, (False, "99.9 %")),
])
def test_a_demand_served_in_part_never_reads_as_served(demand, verdict):
    assert plan_wording.demand_verdict(demand) == verdict


@pytest.mark.parametrize(("gap", "text"), [(0.0, "0 %"), (1e-7, "0.01 %"), (0.00235, "0.24 %"),
                                           (None, wording.ABSENT)])
def test_a_gap_never_looks_closed(gap, text):
    facts = plan_wording.facts(plan_document(optimum={"gap": gap}))
    assert facts[-1].value == text


def test_headroom_is_that_of_the_demand_with_least():
    plan = plan_document()
    plan["demands"][1]["headroom"] = 0.03125
    fact = next(fact for fact in plan_wording.facts(plan) if fact.label == "Headroom")
    assert (fact.value, fact.detail) == ("+3 %", "more requests: big")


def test_switching_is_told_where_it_costs():
    fact = plan_wording.facts(plan_document(optimum={"switching_cost": 12.5}))[0]
    assert fact.detail == "and $12.50 once, to get there"


def test_targets_are_in_capitals():
    assert plan_wording.binding("chat ttft") == "chat TTFT"
    assert plan_wording.binding("throughput") == "throughput"
    assert plan_wording.binding(None) == wording.ABSENT


@pytest.mark.parametrize(("saves", "told"), [
    (0.0, "as much as this plan"), (0.001, "as much as this plan"), (0.38, "$0.380 less"),
    (-1.5, "$1.50 more")])
def test_a_what_if_is_told_beside_this_plan(saves, told):
    assert plan_wording.what_if_cost({"cost_per_hour": 9.3, "saves_per_hour": saves}) \
        == f"It would cost $9.30 per hour, {told}."


def test_what_is_limited_has_its_own_unit():
    """A budget of $10 of which $9.30 were spent was told as 9 of 10."""
    assert plan_wording.amount("cost_per_hour", 9.3) == "$9.30"
    assert plan_wording.amount("power_w", 1750.0) == "1.75 kW"
    assert plan_wording.amount("l40s", 5) == "5"
    assert plan_wording.resource_name("cost_per_hour") == "cost per hour"
    assert plan_wording.resource_name("l40s") == "l40s"
