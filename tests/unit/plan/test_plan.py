"""Whole plans of small fleets, their oddities included."""

import re

import pytest
import yaml

from penstock.core.errors import InputError
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.plan import estimate, expected
from penstock.plan.assign.solve import solve
from penstock.plan.plan import plan_fleet
from support.small_plans import (
    BATCH,
    CHAT,
    TWO_MODELS,
    cards,
    document_of,
    fleet,
    lengths,
    planned,
    traffic,
)


def counts(plan):
    return {name: dict(found) for name, found in plan.checked.counts.items()}


def test_the_cheapest_replica_that_does():
    plan = planned()
    assert plan.served_in_full
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": 1}}
    group, = plan.fleet.replicas
    assert (group.count, group.service_classes) == (1, None)
    assert plan.before.replicas == ()


def test_equal_inputs_make_equal_plans():
    one, other = (document_of(planned(traffic(rate_per_s=30), plan={"pooling": "class"},
                                      accelerators=cards(a100_80gb=2, l4=None)))
                  for _ in range(2))
    assert one == other


def test_the_order_of_the_file_says_nothing():
    straight = planned(traffic(model="llama-3-8b"), traffic(model="qwen2.5-7b", name="second"),
                       models=TWO_MODELS, accelerators=cards(a100_80gb=2, l4=None))
    turned = planned(traffic(model="qwen2.5-7b", name="second"),
                     traffic(model="llama-3-8b", mix={"batch": 0.4, "chat": 0.6}),
                     models=TWO_MODELS[::-1], service_classes=[BATCH, CHAT],
                     accelerators=cards(l4=None, a100_80gb=2))
    assert straight.checked.solution.cost_per_hour == turned.checked.solution.cost_per_hour
    assert set(counts(straight)) == set(counts(turned)) == {"llama-3-8b", "qwen2.5-7b"}


def test_traffic_that_is_given_is_not_made_again():
    found = fleet(plan={"num_seeds": 1})
    workload = fleet_workload(found, 5)
    plan = plan_fleet(found, solve, workload=workload)
    assert plan.choices[0].demand.sample.arrival_s.tolist() == workload.arrival_s.tolist()


def test_as_many_seeds_as_asked_for():
    for number in (1, 3):
        plan = planned(plan={"num_seeds": number}, run={"seed": 9})
        assert len(plan.choices[0].demand.workloads) == number
        assert plan.checked.verdicts["llama-3-8b"].num_seeds == number
        starts = {w.arrival_s[0] for w in plan.choices[0].demand.workloads}
        assert len(starts) == number


def test_what_is_too_much_for_all_cards_is_served_in_part():
    plan = planned(traffic(rate_per_s=200, num_requests=400),
                   accelerators=cards(a100_80gb=1))
    share = plan.checked.solution.served["llama-3-8b"]
    assert 0.05 < share < 1
    assert plan.checked.verdicts["llama-3-8b"].meets
    assert not plan.served_in_full
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": 1}}


def test_the_urgent_class_gets_scarce_cards():
    plan = planned(traffic(rate_per_s=200, num_requests=400), plan={"pooling": "class"},
                   accelerators=cards(a100_80gb=1))
    served = plan.checked.solution.served
    assert served["llama-3-8b/chat"] > 0
    assert served["llama-3-8b/batch"] == 0


@pytest.mark.parametrize("options", [{"max_cost_per_hour": 1.0}, {"max_power_w": 100.0}])
def test_a_budget_for_less_than_one_replica_serves_nothing(options):
    plan = planned(plan=options)
    assert plan.checked.solution.unserved == ("llama-3-8b",)
    assert plan.fleet.replicas == ()


def test_budgets_are_kept():
    busy = traffic(rate_per_s=80, num_requests=160)
    free = planned(busy, accelerators=cards(a100_80gb=None))
    assert free.checked.solution.cost_per_hour > 8.2
    tight = planned(busy, accelerators=cards(a100_80gb=None), plan={"max_cost_per_hour": 8.2})
    assert tight.checked.solution.cost_per_hour <= 8.2
    assert 0 < tight.checked.solution.served["llama-3-8b"] < 1
    power_w = free.choices[0].candidates[0].variant.power_w
    dim = planned(busy, accelerators=cards(a100_80gb=None), plan={"max_power_w": power_w})
    assert dim.checked.solution.power_w == power_w


def test_a_target_that_nothing_meets_leaves_the_other_demand_planned():
    plan = planned(traffic(model="llama-3-8b"), traffic(model="qwen2.5-7b", mix={"fast": 1.0}),
                   models=TWO_MODELS,
                   service_classes=[CHAT, BATCH, {"name": "fast", "slo": {"ttft_s": 1e-4}}])
    assert plan.checked.solution.unserved == ("qwen2.5-7b",)
    assert counts(plan)["llama-3-8b"]
    reasons = {d.reason for d in plan.dropped if d.demand == "qwen2.5-7b"}
    assert "misses the ttft target of fast even when idle" in reasons


def test_a_model_that_no_accelerator_holds_is_explained():
    """The reader used to refuse such a file, whatever another precision or a plan could do."""
    plan = planned(models=[{"name": "llama-3.1-405b"}])
    assert plan.checked.solution.unserved == ("llama-3.1-405b",)
    assert any("does not fit" in d.reason for d in plan.dropped)
    saved = planned(models=[{"name": "llama-3.1-405b", "precisions": ["bf16", "int8"]}],
                    accelerators=cards(a100_80gb=16), plan={"tensor": [8]},
                    service_classes=[{"name": "chat", "slo": {"ttft_s": 20}}, BATCH])
    assert counts(saved) == {"llama-3.1-405b": {"a100-80gb-tp8-int8": 1}}


def test_prompts_longer_than_a_small_card_s_cache_go_to_a_larger_one():
    plan = planned(traffic(lengths=lengths(30_000, 40), rate_per_s=0.2, num_requests=10),
                   models=[{"name": "llama-3-8b", "max_context_tokens": 32_768}],
                   accelerators=cards(l4=None, a100_80gb=None), plan={"tensor": [1]},
                   service_classes=[{"name": "chat", "slo": {"ttft_s": 60}}, BATCH])
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": 1}}
    assert any(d.variant == "l4-bf16" and "longer than the KV cache" in d.reason
               for d in plan.dropped)


@pytest.mark.parametrize("schedule", ["penstock", "sarathi", "fcfs", "orca", "edf", "srpf",
                                      "niyama"])
def test_every_scheduling_policy_can_be_planned_for(schedule):
    assert planned(policies={"schedule": schedule}).served_in_full


@pytest.mark.parametrize("slo", [{}, {"e2e_s": 5}, {"itl_s": 0.05},
                                 {"ttft_s": 2, "percentile": 100},
                                 {"itl_s": 0.1, "itl": "strict", "percentile": 50}])
def test_every_kind_of_objective_can_be_planned_for(slo):
    plan = planned(service_classes=[{"name": "chat", "slo": slo}, {"name": "batch"}])
    assert plan.served_in_full
    document_of(plan)


@pytest.mark.parametrize("entry", [
    traffic(rate_per_s=1e-5, num_requests=4), traffic(num_requests=1),
    traffic(lengths=lengths(1, 1)), traffic(max_tokens=100_000),
    traffic(arrivals="constant"), traffic(start_s=50),
])
def test_odd_traffic_is_served(entry):
    plan = planned(entry)
    assert plan.served_in_full
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": 1}}
    document_of(plan)


def test_requests_all_at_one_instant_are_served(tmp_path):
    rows = "0,300,20\n" * 30
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    own = {"mix": {"chat": 1.0}, "trace": {"file": str(tmp_path / "t.csv")}}
    plan = planned(own)
    assert plan.served_in_full
    assert plan.headroom == {}
    many = planned(own, accelerators=cards(a100_80gb=None),
                   service_classes=[{"name": "chat", "slo": {"ttft_s": 0.2}}, BATCH])
    assert many.served_in_full
    assert many.fleet.replicas[0].count > 1


def test_max_tokens_that_no_cache_holds_is_explained():
    plan = planned(traffic(max_tokens=1_000_000_000))
    assert plan.checked.solution.unserved == ("llama-3-8b",)
    assert all(d.reason.startswith(("a request of 1,000,000,400 tokens", "a replica needs"))
               for d in plan.dropped)


def test_mixtures_of_experts_and_prefix_caching():
    plan = planned(models=[{"name": "mixtral-8x7b"}], engine={"prefix_caching": True})
    assert counts(plan) == {"mixtral-8x7b": {"a100-80gb-tp2-bf16": 1}}


def test_a_warm_up_longer_than_the_traffic_is_refused():
    with pytest.raises(InputError, match=r"run.warmup_s: no request arrives after 1000 s"):
        planned(run={"warmup_s": 1000})


def test_traffic_that_never_meets_in_simulation_ends_unserved():
    """What is unfinished at the last arrival never counts; replicas were added without end."""
    plan = planned(traffic(num_requests=20), run={"drain_s": 0}, accelerators=cards(a100_80gb=None),
                   plan={"tensor": [1]})
    assert plan.checked.solution.unserved == ("llama-3-8b",)
    assert any("misses in simulation" in d.reason for d in plan.dropped)


# -- what runs now -----------------------------------------------------------------------------

TWO_KINDS = cards(a100_80gb=4, l4=None)


def test_running_replicas_are_kept_only_as_far_as_they_pay():
    dear = planned(accelerators=TWO_KINDS, replicas=[{"count": 2}],
                   plan={"start_cost": 100, "stop_cost": 100})
    assert "a100-80gb-bf16" not in counts(dear)["llama-3-8b"], "cost per hour goes first"


def test_of_plans_that_cost_the_same_the_one_with_fewer_changes_is_taken():
    classes = [{"name": "chat", "slo": {"ttft_s": 2}}, BATCH]
    same = [{"name": "a100-80gb", "price_per_hour": 4}, {"name": "h100-80gb", "price_per_hour": 4}]
    for runs in ("a100-80gb", "h100-80gb"):
        plan = planned(accelerators=same, service_classes=classes, plan={"start_cost": 1},
                       replicas=[{"accelerator": runs}])
        assert counts(plan) == {"llama-3-8b": {f"{runs}-bf16": 1}}


def test_what_runs_now_stays_a_choice_though_it_is_dominated():
    plan = planned(replicas=[{"parallelism": {"tensor": 2}}])
    names = [c.variant.name for c in plan.choices[0].candidates]
    assert names == ["a100-80gb-bf16", "a100-80gb-tp2-bf16"]
    assert "a100-80gb-tp2-bf16" not in {d.variant for d in plan.dropped}


@pytest.mark.parametrize("options", [{}, {"step_tokens": [512]}, {"tensor": [2]}])
def test_keep_accelerators_keeps_them_whatever_else_is_asked(options):
    """With step budgets to choose from, no variant bore the name of what runs: none was left."""
    plan = planned(accelerators=TWO_KINDS, replicas=[{"count": 2}],
                   plan={"keep_accelerators": True, **options})
    assert plan.served_in_full
    assert {g.accelerator.name for g in plan.fleet.replicas} == {"a100-80gb"}
    assert "keep_accelerators is set" in {d.reason for d in plan.dropped}
    free = planned(accelerators=TWO_KINDS, replicas=[{"count": 2}], plan=options)
    assert {g.accelerator.name for g in free.fleet.replicas} == {"l4"}


def test_keep_accelerators_without_replicas_keeps_nothing():
    plan = planned(accelerators=TWO_KINDS, plan={"keep_accelerators": True})
    assert {g.accelerator.name for g in plan.fleet.replicas} == {"l4"}


def test_one_kind_per_pool_unless_they_may_mix():
    plan = planned(traffic(rate_per_s=60, num_requests=120),
                   accelerators=cards(a100_80gb=1, l4=None), plan={"mixed": False})
    assert len(counts(plan)["llama-3-8b"]) == 1


def test_pools_by_class_take_their_own_traffic():
    plan = planned(plan={"pooling": "class"})
    assert [(g.service_classes, g.count) for g in plan.fleet.replicas] == [
        (("batch",), 1), (("chat",), 1)]


def test_a_model_without_replicas_is_planned_beside_what_runs():
    document = {"name": "two", "accelerators": cards(a100_80gb=4), "models": TWO_MODELS,
                "service_classes": [CHAT], "replicas": [
                    {"model": "llama-3-8b", "accelerator": "a100-80gb"}],
                "traffic": [{"model": m["name"], "rate_per_s": 2, "num_requests": 20,
                             "lengths": lengths(200, 20)} for m in TWO_MODELS]}
    text = yaml.safe_dump(document)
    with pytest.raises(InputError, match=r"no entry serves class 'chat' of model 'qwen2.5-7b'"):
        parse_fleet(text)
    plan = plan_fleet(parse_fleet(text, to_plan=True), solve)
    assert plan.served_in_full
    assert {group.model.name for group in plan.fleet.replicas} == {"llama-3-8b", "qwen2.5-7b"}


def test_headroom_stays_below_what_no_schedule_exceeds():
    """A short run of patient requests lets any rate pile up."""
    plan = planned(traffic(mix={"batch": 1.0}, rate_per_s=5, num_requests=60,
                           lengths=lengths(2000, 100)))
    name, = plan.headroom
    counts = dict(plan.checked.counts[name])
    choice, = plan.choices
    assert plan.headroom[name] < 0.97, "the burst alone would let any rate in"
    bound_per_s = sum(n * choice.candidate(v).bound_per_s for v, n in counts.items())
    assert (1 + plan.headroom[name]) * choice.demand.rate_per_s <= bound_per_s * (1 + 1e-9)


def test_a_class_that_nothing_can_serve_is_set_apart():
    hasty = {"name": "hasty", "slo": {"ttft_s": 0.001}}
    plan = planned(traffic(mix={"chat": 0.4, "hasty": 0.2, "batch": 0.4}),
                   service_classes=[CHAT, hasty, BATCH])
    assert counts(plan) == {"llama-3-8b/chat+batch": {"a100-80gb-bf16": 1}, "llama-3-8b/hasty": {}}
    assert plan.checked.solution.unserved == ("llama-3-8b/hasty",)
    assert plan.fleet.replicas[0].service_classes == ("chat", "batch")
    requests = sum(len(choice.demand.sample) for choice in plan.choices)
    assert requests == 40


@pytest.mark.parametrize("least", [1, 2, 3])
def test_every_kind_has_as_many_replicas_as_asked(least):
    plan = planned(plan={"min_replicas": least})
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": least}}
    assert plan.served_in_full


def failing_on(name, monkeypatch, error):
    """Makes the analytic model of one kind of accelerator fail."""
    made = estimate.replica_queue

    def replica_queue(fleet, demand, variant):
        if variant.group.accelerator.name == name:
            raise error
        return made(fleet, demand, variant)

    monkeypatch.setattr(estimate, "replica_queue", replica_queue)


@pytest.mark.parametrize(("error", "reason"), [
    (ValueError("no negative\nelements"),
     r"its estimate failed, which is a bug in Penstock: ValueError: no negative elements "
     r"\(test_plan\.py:\d+\); please report it"),
    (InputError("no step times of an l4"), "no step times of an l4")])
def test_a_candidate_whose_estimate_fails_is_set_apart(monkeypatch, error, reason):
    failing_on("l4", monkeypatch, error)
    plan = planned(accelerators=cards(a100_80gb=4, l4=None))
    assert plan.served_in_full
    assert counts(plan) == {"llama-3-8b": {"a100-80gb-bf16": 1}}
    document = document_of(plan)
    reasons = {row["variant"]: row["reason"] for row in document["not_considered"]}
    assert re.fullmatch(reason, reasons["l4-bf16"])


def test_a_plan_of_candidates_that_all_fail_serves_nothing_and_says_why(monkeypatch):
    failing_on("a100-80gb", monkeypatch, ZeroDivisionError("float division by zero"))
    plan = planned()
    assert counts(plan) == {"llama-3-8b": {}}
    assert not plan.served_in_full
    assert all("ZeroDivisionError" in dropped.reason for dropped in plan.dropped
               if dropped.variant == "a100-80gb-bf16")


def test_a_prediction_that_fails_later_is_left_out(monkeypatch):
    """The estimate of one number of replicas may fail where that of another does not."""
    def failing(*arguments):
        raise ValueError

    monkeypatch.setattr(expected, "replica_queue", failing)
    document = document_of(planned())
    assert document["served_in_full"]
    assert "predicted" not in document["demands"][0]["classes"][0]
