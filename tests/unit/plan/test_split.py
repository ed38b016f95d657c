"""Plans that give prompts and answers replicas of their own."""

import pytest

from penstock.fleet.load import parse_fleet
from penstock.plan.document import full_document
from penstock.plan.judge import judge
from penstock.plan.loadable import planned_yaml
from support.small_plans import cards, document_of, lengths, planned, traffic

STRICT = {"name": "chat", "slo": {"ttft_s": 1, "itl_s": 0.02, "itl": "strict"}}
SPLIT = {"transfer": {"gb_per_s": 50}}
LONG = traffic(mix={"chat": 1.0}, lengths=lengths(4000, 60), rate_per_s=8, num_requests=80)


def long_prompts(gpus=8, **sections):
    """Long prompts whose steps, with whole prompts, delay the tokens of others for too long."""
    return planned(LONG, accelerators=cards(h100_80gb=gpus), service_classes=[STRICT],
                   engine={"name": "vllm"}, plan={"num_seeds": 1, "tensor": [1]}, **sections)


@pytest.fixture(scope="module")
def apart():
    return long_prompts(disaggregation=SPLIT)


@pytest.fixture(scope="module")
def whole():
    return long_prompts()


def test_the_cheaper_of_both_is_chosen(apart, whole):
    choice, = apart.choices
    name = choice.demand.name
    assert {group.role for group in apart.fleet.replicas} == {"prefill", "decode"}
    assert apart.is_split(name)
    assert apart.checked.verdicts[name].meets
    assert apart.served_in_full
    assert not whole.served_in_full or apart.cost_per_hour < whole.cost_per_hour
    assert apart.whole.solution.cost_per_hour == pytest.approx(whole.cost_per_hour)
    assert judge(apart.before, choice.demand, apart.fleet.replicas,
                 seed=apart.fleet.run.seed).meets


def test_the_document_tells_roles_cost_and_what_whole_replicas_would_be(apart):
    document = full_document(apart)
    demand, = document["demands"]
    assert set(demand["replicas"]) == {"h100-80gb-bf16 prefill", "h100-80gb-bf16 decode"}
    assert demand["served_share"] == 1.0
    assert document["cost_per_hour"] == pytest.approx(demand["cost_per_hour"])
    assert document["unserved"] == document["pareto"] == []
    assert 0.0 < demand["headroom"] <= 1.0
    assert 0.05 <= demand["certainty"]["holds_probability"] <= 0.951
    assert document["holds_probability"] == demand["certainty"]["holds_probability"]
    assert set(demand["whole"]) == {"replicas", "served_share"}
    used = {row["accelerator"]: row["used"] for row in document["accelerators"]}
    assert used == {"h100-80gb": sum(demand["replicas"].values())}
    assert document == full_document(apart) | {"timing": document["timing"]}


def test_the_planned_file_loads_with_its_roles(apart):
    found = parse_fleet(planned_yaml(apart))
    assert [(group.role, group.count) for group in found.replicas] == [
        (group.role, group.count) for group in apart.fleet.replicas]
    assert found.disaggregation == apart.before.disaggregation


def test_whole_replicas_stay_where_they_are_cheaper(whole):
    short = planned(disaggregation=SPLIT)
    assert not short.has_roles
    assert short.fleet.disaggregation is None
    assert document_of(short)["replicas"] == document_of(planned())["replicas"]
    assert parse_fleet(planned_yaml(short)).replicas
    assert not whole.has_roles


def test_too_few_accelerators_split_nothing():
    assert not long_prompts(gpus=1, disaggregation=SPLIT).has_roles
