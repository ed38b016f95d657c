"""Demands and candidates as a planning problem, and a solution as replica groups."""

import pytest

from penstock.fleet.sources import fleet_workload
from penstock.plan.assign.problem import validated
from penstock.plan.assign.solve import solve
from penstock.plan.demands import demands_of
from penstock.plan.estimate import Candidate
from penstock.plan.propose import (
    Choice,
    counts_of,
    current_counts,
    current_groups,
    groups_of,
    idle_counts,
    pool_name,
    priority_shift,
    problem_of,
)
from penstock.plan.variants import variants_of
from support.small_plans import BATCH, CHAT, TWO_MODELS, cards, fleet, traffic


def choices_of(found, rate_per_s=2.0):
    """Every variant of every demand, each at one rate; and the rates."""
    demands = demands_of(found, (fleet_workload(found),))
    choices = []
    for demand in demands:
        variants = variants_of(found, demand.model, 440, current_groups(found, demand))[0]
        choices.append(Choice(demand, tuple(Candidate(v, rate_per_s, 1, "throughput", None, ())
                                            for v in variants)))
    return choices, {(c.demand.name, v.variant.name): rate_per_s
                     for c in choices for v in c.candidates}


def solved(found, rate_per_s=2.0):
    choices, rates = choices_of(found, rate_per_s)
    problem = problem_of(found, choices, rates)
    return choices, problem, solve(problem)


def test_every_demand_and_variant_is_a_pool_with_its_cards():
    found = fleet(accelerators=cards(a100_80gb=4, l4=None), plan={"tensor": [2]})
    choices, problem, _ = solved(found)
    assert validated(problem)
    assert {pool.name: dict(pool.accelerators) for pool in problem.pools} == {
        "llama-3-8b on a100-80gb-tp2-bf16": {"a100-80gb": 2},
        "llama-3-8b on l4-tp2-bf16": {"l4": 2}}
    assert problem.supply.accelerators == {"a100-80gb": 4}
    need, = problem.demands
    assert need.mixed
    assert need.options[0].load == pytest.approx(choices[0].demand.rate_per_s / 2.0)


def test_a_demand_too_small_to_notice_still_gets_a_replica():
    """At 1e-7 of a replica's rate its load was within the solver's tolerance of nothing."""
    found = fleet()
    choices, _, solution = solved(found, rate_per_s=1e8)
    assert counts_of(solution, choices[0]) == (("a100-80gb-bf16", 1),)
    assert solution.served == {"llama-3-8b": 1.0}


def test_budgets_switching_and_mixing_are_handed_on():
    _, problem, _ = solved(fleet(plan={"max_cost_per_hour": 9, "max_power_w": 800, "mixed": False,
                                       "start_cost": 2, "stop_cost": 1}))
    assert (problem.limits.cost_per_hour, problem.limits.power_w) == (9, 800)
    assert (problem.switching.start_cost, problem.switching.stop_cost) == (2, 1)
    assert not problem.demands[0].mixed


@pytest.mark.parametrize(("chat", "batch"), [(0, 1), (1, 3), (0, 0)])
def test_priorities_keep_their_order_from_0_on(chat, batch):
    classes = [CHAT | {"priority": chat}, BATCH | {"priority": batch}]
    found = fleet(traffic(rate_per_s=40), plan={"pooling": "class", "tensor": [1]},
                  service_classes=classes, accelerators=cards(a100_80gb=1))
    choices, problem, solution = solved(found, 50.0)
    by_name = {need.name: need.priority for need in problem.demands}
    assert by_name["llama-3-8b/batch"] - by_name["llama-3-8b/chat"] == batch - chat
    assert priority_shift(choices) == (1 if chat == 0 else 0)
    if chat < batch:
        assert solution.unserved == ("llama-3-8b/batch",)


def test_groups_take_only_the_classes_of_their_demand():
    found = fleet(plan={"pooling": "class", "tensor": [1]})
    choices, _, solution = solved(found)
    groups = [group for c in choices for group in groups_of(c, counts_of(solution, c))]
    assert [group.service_classes for group in groups] == [("batch",), ("chat",)]
    assert all(group.count >= 1 for group in groups)


RUNNING = [{"count": 1, "service_classes": ["chat"]}, {"count": 2, "service_classes": ["batch"]}]


def test_what_runs_now_is_counted_by_demand():
    apart = fleet(replicas=RUNNING, plan={"pooling": "class"})
    choices, problem, _ = solved(apart)
    assert [current_counts(apart, c.demand) for c in choices] == [{"a100-80gb-bf16": 2},
                                                                  {"a100-80gb-bf16": 1}]
    assert {p.name: p.current_replicas for p in problem.pools if p.current_replicas} == {
        "llama-3-8b/batch on a100-80gb-bf16": 2, "llama-3-8b/chat on a100-80gb-bf16": 1}
    assert idle_counts(apart, choices) == {}


def test_replicas_of_a_model_are_its_own_whatever_classes_they_serve():
    together = fleet(replicas=RUNNING)
    choices, _, _ = solved(together)
    assert current_counts(together, choices[0].demand) == {"a100-80gb-bf16": 3}


def test_replicas_that_no_demand_needs_are_stopped_and_cost_it():
    found = fleet(traffic(model="llama-3-8b"), models=TWO_MODELS, plan={"stop_cost": 7}, replicas=[
        {"model": "llama-3-8b"}, {"model": "qwen2.5-7b", "count": 2}])
    choices, _, solution = solved(found, 100.0)
    assert idle_counts(found, choices) == {"qwen2.5-7b/all": {"a100-80gb-bf16": 2}}
    assert solution.switching_cost == pytest.approx(14.0)
    assert pool_name("qwen2.5-7b/all", "a100-80gb-bf16") not in solution.replicas


def test_shared_replicas_are_stopped_when_classes_part():
    found = fleet(replicas=[{"count": 2}], plan={"pooling": "class"})
    choices, _, _ = solved(found)
    assert idle_counts(found, choices) == {"llama-3-8b/all": {"a100-80gb-bf16": 2}}
