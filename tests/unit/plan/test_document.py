"""A plan as plain data."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from penstock.fleet.sources import fleet_workload
from penstock.metrics.summary import Usage, summarise
from penstock.plan.assign.pareto import ParetoPoint
from penstock.plan.beliefs import Beliefs
from penstock.plan.document import plan_document
from penstock.plan.expected import all_alone
from penstock.plan.insight import Insight, insight
from penstock.plan.propose import format_fleet, pool_name
from penstock.sim.simulation import simulate
from support.small_plans import TWO_MODELS, cards, document_of, fleet, planned, traffic

BUSY = traffic(rate_per_s=60, num_requests=120)


@pytest.fixture(scope="module")
def plan():
    return planned(BUSY, accelerators=cards(a100_80gb=2, l4=None), plan={"pooling": "class"})


@pytest.fixture(scope="module")
def document(plan):
    return document_of(plan)


def test_it_is_json_through_and_through(document):
    assert orjson.loads(orjson.dumps(document)) == document


def test_a_mean_itl_has_its_tpot_beside_it():
    classes = [{"name": "chat", "slo": {"itl_s": 0.2, "itl": "mean"}},
               {"name": "batch", "slo": {"itl_s": 0.2}}]
    demand, = document_of(planned(BUSY, service_classes=classes))["demands"]
    found = {entry["name"]: entry["simulated"] for entry in demand["classes"]}
    assert ["tpot_p99_s" in found[name] for name in ("chat", "batch")] == [True, False]
    assert 0.0 < found["chat"]["tpot_p99_s"] < 0.2


def test_cost_power_and_cards_are_sums_over_replicas(plan, document):
    assert document["cards"] == document["accelerators"]
    price = {c["accelerator"]: c["price_per_hour"] for c in document["accelerators"]}
    used = {c["accelerator"]: c["used"] for c in document["accelerators"]}
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


def test_cost_per_million_tokens_is_that_of_the_simulated_run(document, plan):
    run = simulate(plan.fleet, fleet_workload(plan.fleet, 0), seed=0).table
    summary = summarise(run, plan.fleet.service_classes,
                        Usage(np.zeros(0), document["cost_per_hour"]))
    assert document["cost_per_million_tokens"] == pytest.approx(
        summary.overall.cost.per_million_tokens)


def test_the_share_of_the_throughput_bound_is_what_is_served_of_it(plan, document):
    lasting = {choice.demand.name: choice.demand.lasting_per_s for choice in plan.choices}
    for demand in document["demands"]:
        bounds = {c["variant"]: c["bound_per_s"] for c in document["candidates"]
                  if c["demand"] == demand["name"]}
        bound_per_s = sum(n * bounds[variant] for variant, n in demand["replicas"].items())
        assert demand["throughput_bound_per_s"] == pytest.approx(bound_per_s)
        assert demand["bound_share"] == pytest.approx(
            demand["served_share"] * lasting[demand["name"]] / bound_per_s)
        assert 0.0 < demand["bound_share"] < 1.0


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
    found = document_of(planned(service_classes=[{"name": name, "slo": {"ttft_s": 1e-4}}
                                                 for name in ("chat", "batch")]))
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


def test_where_nothing_runs_there_are_no_changes(document):
    """They were all starts, as of a fleet that had been empty."""
    assert not {"changes", "moves"} & set(document)


def test_changes_are_starts_and_stops():
    assert changes(replicas=[{"count": 1}]) == []
    assert changes(replicas=[{"count": 3}]) == [("llama-3-8b", "a100-80gb-bf16", "stop", 2)]
    assert changes(accelerators=cards(a100_80gb=4, l4=None), replicas=[{"count": 1}],
                   plan={"tensor": [2]}) == [
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


# -- candidates ------------------------------------------------------------------------------------


def test_candidates_are_counted_by_what_simulation_left_of_the_estimate(plan, document):
    """They were counted by the first estimate, and the plan had more of them than they said."""
    first = Beliefs(plan.choices).rates
    assert {row["corrected"] for row in document["candidates"]} == {True, False}
    for row in document["candidates"]:
        key = row["demand"], row["variant"]
        rate_per_s = next(d["rate_per_s"] for d in document["demands"] if d["name"] == key[0])
        assert row["corrected"] == (row["believed_per_s"] != first[key])
        carried = row["num_replicas"] * row["believed_per_s"]
        if row["corrected"]:
            assert carried >= rate_per_s * (1 - 1e-6) > carried - row["believed_per_s"]
        else:
            assert row["num_replicas"] == row["estimated_replicas"]
        assert row["cost_alone_per_hour"] == pytest.approx(
            row["num_replicas"] * row["cost_per_hour"])


# -- the front -------------------------------------------------------------------------------------


def point(cost, score, **replicas):
    pools = {f"llama-3-8b/{demand} on {variant}": count
             for demand, counts in replicas.items() for variant, count in counts.items()}
    return ParetoPoint(score, cost, solution(pools, cost))


def solution(pools, cost):
    return SimpleNamespace(replicas=pools, cost_per_hour=cost, power_w=100.0)


def front_of(plan, score, *points):
    """What the document says of a front that the plan may be on."""
    return plan_document(plan, Insight((), (), tuple(points), score, {}))


CHEAP = {"chat": {"l4-tp2-bf16": 1}, "batch": {"l4-tp2-bf16": 1}}


def test_the_front_names_demands_and_marks_the_plan(plan):
    cost = plan.checked.solution.cost_per_hour
    found = front_of(plan, 1.0, point(cost + 1, 0.5, **CHEAP))
    assert [p["chosen"] for p in found["pareto"]] == [True, False]
    assert found["pareto"][1]["label"] == ("llama-3-8b/batch: 1 x l4-tp2-bf16; "
                                           "llama-3-8b/chat: 1 x l4-tp2-bf16")
    assert found["pareto"][1]["replicas"] == {
        f"llama-3-8b/{name}": counts for name, counts in CHEAP.items()}
    assert found["plan_point"]["on_front"] is True
    assert found["pareto"][0] == {k: v for k, v in found["plan_point"].items() if k != "on_front"}


@pytest.mark.parametrize(("more", "score"), [(0.0, 0.5), (-0.1, 1.0), (-0.1, 0.5)])
def test_a_plan_behind_the_front_is_not_listed_as_on_it(plan, more, score):
    cost = plan.checked.solution.cost_per_hour
    found = front_of(plan, 1.0, point(cost + more, score, **CHEAP))
    assert [p["chosen"] for p in found["pareto"]] == [False]
    assert found["plan_point"]["on_front"] is False
    assert found["plan_point"]["cost_per_hour"] == cost


def test_of_equals_the_plan_itself_is_on_the_front(plan):
    cost = plan.checked.solution.cost_per_hour
    found = front_of(plan, 1.0, point(cost, 1.0, **CHEAP))
    assert [p["chosen"] for p in found["pareto"]] == [True]


def test_the_front_of_a_plan_rests_on_estimates_that_meet_their_targets(plan):
    """It rested on what is hoped of replicas at first, at which the model has targets missed."""
    around = insight(plan)
    assert len(around.front) > 1
    for found in around.front:
        for choice in plan.choices:
            name = choice.demand.name
            if any(found.solution.replicas.get(pool_name(name, format_fleet(counts)))
                   for counts in plan.checked.confirmed[name]):
                continue  # simulated as a whole
            used = dict(plan.checked.counts[name])
            alone = all_alone(plan, replace(
                choice, candidates=(*choice.candidates, *choice.dominated)))
            carried = sum(
                count * (plan.checked.rates[name, variant] if variant in used
                         else alone[variant].rate_per_s)
                for variant in alone
                if (count := found.solution.replicas.get(pool_name(name, variant), 0)))
            assert carried >= choice.demand.rate_per_s * (1 - 1e-3)


def test_only_timing_differs_from_run_to_run(plan):
    solution = replace(plan.checked.solution, time_s=plan.checked.solution.time_s + 1.0)
    other = plan_document(replace(plan, checked=replace(plan.checked, solution=solution)))
    mine = plan_document(plan)
    assert {key for key in mine if mine[key] != other[key]} == {"timing"}
    assert {"objective", "bound", "gap"} <= set(mine["optimum"])
    assert mine["timing"]["solver_s"] == plan.checked.solution.time_s
