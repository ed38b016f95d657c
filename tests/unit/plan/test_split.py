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


def both_lengths(**plan):
    """Short prompts that may not wait for long ones, and long ones that delay others' tokens."""
    slos = {"chat": {**STRICT["slo"], "ttft_s": 0.2}, "papers": {**STRICT["slo"], "ttft_s": 3}}
    return planned(
        traffic(mix={"chat": 1.0}, lengths=lengths(200, 100), rate_per_s=10, num_requests=100),
        traffic(mix={"papers": 1.0}, lengths=lengths(8000, 50), rate_per_s=2, num_requests=20),
        accelerators=cards(h100_80gb=16), engine={"name": "vllm"}, models=[{"name": "llama-3-8b"}],
        service_classes=[{"name": name, "slo": slo} for name, slo in slos.items()],
        plan={"num_seeds": 1, "tensor": [1], **plan}, disaggregation=SPLIT)


@pytest.fixture(scope="module")
def beside():
    return both_lengths()


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


def test_whole_replicas_serve_short_prompts_beside_roles(beside):
    assert beside.served_in_full
    by_role = {group.role: group for group in beside.fleet.replicas}
    assert set(by_role) == {"both", "prefill", "decode"}
    assert 200 < by_role["prefill"].min_prompt_tokens <= 8000
    alone = both_lengths(mixed=False)
    assert {group.role for group in alone.fleet.replicas} != set(by_role)
    assert beside.cost_per_hour < alone.cost_per_hour
    assert beside.cost_per_hour < beside.whole.solution.cost_per_hour


def test_the_planned_file_divides_prompts_as_the_plan_does(beside):
    again = parse_fleet(planned_yaml(beside))
    assert again.replicas == beside.fleet.replicas
    name = beside.choices[0].demand.name
    demand, = full_document(beside)["demands"]
    assert demand["certainty"]["holds_probability"] > 0.0
    assert 0.0 <= beside.headroom[name] <= 1.0
