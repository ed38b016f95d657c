"""Laws of plans that choose among whole replicas, replicas with roles, and both together."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.values import Fleet
from penstock.plan.assign.solve import solve
from penstock.plan.document import full_document
from penstock.plan.judge import judge
from penstock.plan.plan import FleetPlan, plan_fleet
from support.scaled_examples import examples
from support.small_plans import cards, fleet, lengths, traffic

SPLIT = {"transfer": {"gb_per_s": 50}}


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Short prompts and long ones for stock engines, few enough to plan in a moment."""
    slo = {"ttft_s": draw(st.sampled_from((0.3, 1))), "itl_s": draw(st.sampled_from((0.02, 0.05))),
           "itl": draw(st.sampled_from(("strict", "paced")))}
    short, long = draw(st.sampled_from(((100, 2000), (400, 6000))))
    entries = [traffic(mix={"chat": 1.0}, lengths=lengths(prompt, draw(st.sampled_from((20, 80)))),
                       rate_per_s=rate, num_requests=20 * rate)
               for prompt, rate in ((short, draw(st.sampled_from((1, 4)))), (long, 2))]
    return fleet(*entries, accelerators=cards(h100_80gb=draw(st.sampled_from((2, 4, 12)))),
                 engine={"name": "vllm"}, disaggregation=SPLIT,
                 service_classes=[{"name": "chat", "slo": slo}],
                 plan={"num_seeds": 1, "tensor": [1],
                       "confidence": draw(st.sampled_from((0.5, 0.9)))})


@examples(6)
@given(fleets())
def test_roles_beside_whole_replicas_never_raise_the_cost(found: Fleet) -> None:
    plan = plan_fleet(found, solve)
    never_dearer(plan, plan_fleet(replace(found, disaggregation=None), solve))
    never_dearer(plan, plan_fleet(replace(found, plan=replace(found.plan, mixed=False)), solve))


def never_dearer(plan: FleetPlan, other: FleetPlan) -> None:
    if other.served_in_full:
        assert plan.served_in_full
        assert plan.cost_per_hour <= other.cost_per_hour + 1e-6


@examples(6)
@given(fleets())
def test_plans_with_roles_hold_within_the_bounds_of_their_parts(found: Fleet) -> None:
    plan = plan_fleet(found, solve)
    if not plan.served_in_full:
        return
    choice, = plan.choices
    assert judge(found, choice.demand, plan.fleet.replicas, seed=found.run.seed).meets
    row, = full_document(plan)["demands"]
    assert row["bound_share"] is None or row["bound_share"] <= 1.0 + 1e-6
    low, high = row["certainty"]["headroom_interval"]
    assert low <= row["headroom"] <= high
    assert row["certainty"]["holds_probability"] >= found.plan.confidence - 1e-3
    cheapest, dearest = row["certainty"]["cost_per_hour_interval"]
    assert cheapest <= plan.cost_per_hour == pytest.approx(row["cost_per_hour"])
    assert dearest is None or dearest >= cheapest
