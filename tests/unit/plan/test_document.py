"""A plan as plain data."""

from dataclasses import replace

import orjson
import pytest

from small_plans import BATCH, TWO_MODELS, cards, document_of, fleet, planned, traffic

BUSY = traffic(rate_per_s=60, num_requests=120)


@pytest.fixture(scope="module")
def plan():
    return planned(BUSY, accelerators=cards(a100_80gb=2, l4=None), plan={"pooling": "class"})


@pytest.fixture(scope="module")
def document(plan):
    return document_of(plan)


def test_it_is_json_through_and_through(document):
    assert orjson.loads(orjson.dumps(document)) == document


def test_cost_power_and_cards_are_sums_over_replicas(plan, document):
    price = {c["accelerator"]: c["price_per_hour"] for c in document["cards"]}
    used = {c["accelerator"]: c["used"] for c in document["cards"]}
    groups = plan.fleet.replicas
    for name, number in used.items():
        assert number == sum(g.num_accelerators for g in groups if g.accelerator.name == name)
    total = sum(price[name] * number for name, number in used.items())
    assert document["cost_per_hour"] == pytest.approx(total)
    assert document["cost_per_hour"] == pytest.approx(
        sum(d["cost_per_hour"] for d in document["demands"]))
    assert document["power_w"] == pytest.approx(sum(d["power_w"] for d in document["demands"]))
    watts = sum(g.num_accelerators * g.accelerator.power_w for g in groups)
    assert document["power_w"] == pytest.approx(watts)


def test_cost_per_million_tokens_is_cost_over_what_arrives(document, plan):
    sample = [c.demand.sample for c in plan.choices]
    tokens_per_s = sum((w.prompt_tokens.sum() + w.output_tokens.sum()) / w.duration_s
                       for w in sample)
    assert document["cost_per_million_tokens"] == pytest.approx(
        document["cost_per_hour"] / 3600 / tokens_per_s * 1e6)


def test_the_replicas_section_reads_back_as_the_plan_s_replicas(plan, document):
    again = fleet(BUSY, accelerators=cards(a100_80gb=2, l4=None), replicas=document["replicas"])
    assert again.replicas == plan.fleet.replicas


def test_predicted_and_simulated_stand_side_by_side(document):
    rows = [row for demand in document["demands"] for row in demand["classes"]]
    steady = [row for row in rows if row["predicted"]["ttft_p99_s"] is not None]
    assert steady  # a burst may do with replicas that would not last
    for row in steady:
        assert 0 < row["predicted"]["ttft_p50_s"] <= row["predicted"]["ttft_p99_s"]
        assert row["simulated"]["ttft_p99_s"] < 50 * row["predicted"]["ttft_p99_s"]
    for row in rows:
        assert row["attainment"] >= 0.99
        assert 0 < row["simulated"]["ttft_p50_s"] <= row["simulated"]["ttft_p99_s"]


def test_what_is_served_in_part_is_predicted_at_that_part():
    """At the whole rate the model has no steady state, so there was no prediction at all."""
    plan = planned(traffic(rate_per_s=200, num_requests=300), accelerators=cards(a100_80gb=1))
    demand, = document_of(plan)["demands"]
    assert demand["served_share"] < 0.6
    assert demand["headroom"] is None
    solution = replace(plan.checked.solution, served={"llama-3-8b": 0.05})
    less, = document_of(replace(plan, checked=replace(plan.checked, solution=solution)))["demands"]
    assert 0 < less["classes"][0]["predicted"]["ttft_p99_s"] < 1


def test_an_unserved_demand_has_no_replicas_and_no_verdict():
    found = document_of(planned(service_classes=[{"name": "chat", "slo": {"ttft_s": 1e-4}}, BATCH]))
    demand, = found["demands"]
    assert (demand["replicas"], demand["meets"], demand["served_share"]) == ({}, None, 0.0)
    assert demand["cost_per_million_tokens"] is None
    assert demand["classes"] == [{"name": c["name"], "slo": c["slo"]} for c in demand["classes"]]
    assert (found["unserved"], found["served_in_full"]) == (["llama-3-8b"], False)
    assert found["replicas"] == []
    assert {row["variant"] for row in found["not_considered"]} >= {"a100-80gb-bf16"}


def test_levels_go_by_the_file_s_own_priorities():
    found = document_of(planned(plan={"pooling": "class"}, service_classes=[
        {"name": "chat", "priority": 0}, {"name": "batch", "priority": 2}]))
    assert [level["name"] for level in found["optimum"]["levels"]] == [
        "served, priority 0", "served, priority 2", "cost"]


def changes(**sections):
    found = document_of(planned(**sections))["changes"]
    return [(c["demand"], c["variant"], c["action"], c["num_replicas"]) for c in found]


def test_changes_are_starts_and_stops():
    assert changes() == [("llama-3-8b", "a100-80gb-bf16", "start", 1)]
    assert changes(replicas=[{"count": 1}]) == []
    assert changes(replicas=[{"count": 3}]) == [("llama-3-8b", "a100-80gb-bf16", "stop", 2)]
    assert changes(accelerators=cards(a100_80gb=4, l4=None), replicas=[{"count": 1}]) == [
        ("llama-3-8b", "a100-80gb-bf16", "stop", 1), ("llama-3-8b", "l4-tp2-bf16", "start", 1)]


def test_replicas_that_serve_nobody_any_more_are_stopped():
    """They were forgotten: a plan for another model said nothing of what runs for this one."""
    found = document_of(planned(
        traffic(model="llama-3-8b"), models=TWO_MODELS, replicas=[
            {"model": "llama-3-8b"}, {"model": "qwen2.5-7b", "count": 2}]))
    assert [(c["demand"], c["before"], c["after"], c["action"]) for c in found["changes"]] == [
        ("qwen2.5-7b/all", 2, 0, "stop")]
    assert found["changes"][0]["num_replicas"] == 2


def test_trials_say_what_was_tried(document):
    assert document["trials"]
    for trial in document["trials"]:
        assert trial["replicas"]
        assert 0 < trial["share"] <= 1
        assert all(0 <= share <= 1 for share in trial["attainment"].values())
    last = {t["demand"]: t for t in document["trials"] if t["meets"]}
    assert set(last) == {d["name"] for d in document["demands"]}
