"""What variants are expected to do, and which ones no plan needs."""

from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.fleet.sources import fleet_workload
from penstock.plan import propose
from penstock.plan.assign.solve import solve
from penstock.plan.demands import demands_of
from penstock.plan.estimate import (
    FAILED,
    Candidate,
    class_targets,
    estimate,
    request_mix,
    without_dominated,
)
from penstock.plan.propose import Choice, problem_of
from penstock.plan.variants import LeftOut, variants_of
from support.scaled_examples import unit_examples
from support.small_plans import BATCH, CHAT, cards, fleet, lengths, planned, traffic


def estimates(*entries, num_seeds=2, **sections):
    """(fleet, demand, estimates by name) of the only demand."""
    found = fleet(*entries, **sections)
    demand, = demands_of(found, tuple(fleet_workload(found, s) for s in range(num_seeds)))
    kept, _ = variants_of(found, demand.model, demand.longest_tokens)
    return found, demand, {v.name: estimate(found, demand, v) for v in kept}


def able(*entries, **sections):
    found = estimates(*entries, **sections)[2]
    return {name: e for name, e in found.items() if isinstance(e, Candidate)}


def rates_of(candidates):
    return {c.variant.name: c.rate_per_s for c in candidates}


def test_a_candidate_carries_the_demand_with_its_replicas():
    _, demand, found = estimates(traffic(rate_per_s=80))
    for candidate in found.values():
        assert candidate.num_replicas * candidate.rate_per_s >= demand.rate_per_s
        assert candidate.cost_per_hour == pytest.approx(
            candidate.num_replicas * candidate.variant.cost_per_hour)
        assert candidate.bound_per_s > 0
        for row in candidate.classes:
            assert 0 < row.ttft_p50_s <= row.ttft_p99_s
            assert 0 < row.itl_p50_s <= row.itl_p99_s
    assert found["a100-80gb-bf16"].num_replicas > found["a100-80gb-tp4-bf16"].num_replicas


def test_places_for_adapters_bind_the_estimate_of_a_candidate():
    adapters = [{"name": f"a{number}", "rank": 8} for number in range(30)]
    models = [{"name": "llama-3-8b", "adapters": adapters}]
    entry = traffic(mix={"chat": 1.0}, rate_per_s=4, num_requests=400, adapters={"zipf": 0.5},
                    lengths=lengths(200, 200))

    def found(max_loras):
        room = {"max_loras": max_loras, "max_cpu_loras": 30, "max_rank": 8}
        return able(entry, models=models, accelerators=cards(a100_80gb=None), num_seeds=1,
                    replicas=[{"count": 1, "lora": room}])["a100-80gb-bf16"]

    tight, roomy = found(2), found(30)
    assert (tight.binding, roomy.num_replicas) == ("chat adapters", 1)
    assert tight.num_replicas > 2
    assert roomy.rate_per_s > 3 * tight.rate_per_s
    assert tight.classes[0].ttft_p99_s > roomy.classes[0].ttft_p99_s


@pytest.mark.parametrize(("accelerator", "model", "precision", "slo", "rate_per_s"), [
    ("mi325x", "llama-3.3-70b", "bf16", {"ttft_s": 1, "itl_s": 0.05}, 5),
    ("l40s", "qwen3-30b-a3b", "fp8", {"ttft_s": 1, "itl_s": 0.02}, 10)])
def test_no_estimate_fails_near_the_edge(accelerator, model, precision, slo, rate_per_s):
    found = estimates({"trace": "azure-2023-conv", "rate_per_s": rate_per_s,
                       "num_requests": 1000, "mix": {"chat": 1}},
                      accelerators=[{"name": accelerator}],
                      models=[{"name": model, "precisions": [precision]}],
                      service_classes=[{"name": "chat", "slo": slo}])[2]
    assert not [e for e in found.values() if isinstance(e, LeftOut) and e.reason.startswith(FAILED)]


@pytest.mark.parametrize(("slo", "reason"), [
    ({"ttft_s": 0.001}, "misses the ttft target of chat even when idle"),
    ({"itl_s": 0.001}, "misses the itl target of chat even when idle"),
    ({"itl_s": 0.001, "itl": "strict"}, "misses the itl target of chat even when idle"),
    ({"e2e_s": 0.01}, "misses the e2e target of chat even when idle"),
])
def test_a_target_beyond_the_hardware_is_named(slo, reason):
    found = estimates(service_classes=[{"name": "chat", "slo": slo}, BATCH])[2]
    assert {e.reason for e in found.values()} == {reason}
    assert all(isinstance(e, LeftOut) for e in found.values())


def test_steps_of_one_token_are_too_small():
    found = estimates(plan={"step_tokens": [1]})[2]
    assert {e.reason for e in found.values()} == {"its steps are too small for any rate"}


@pytest.mark.parametrize("entry", [
    traffic(rate_per_s=1e-4, num_requests=3),
    traffic(num_requests=1),
    traffic(lengths=lengths(1, 1)),
    traffic(lengths=lengths(8000, 100)),
    traffic(arrivals="constant"),
    traffic(arrivals={"name": "gamma", "gap_cv": 5}),
    traffic(max_tokens=100_000),
    traffic(mix={"chat": 1.0}),
])
def test_odd_traffic_has_finite_estimates(entry):
    found = able(entry)
    assert found
    for candidate in found.values():
        assert 0 < candidate.rate_per_s < 1e6
        for row in candidate.classes:
            assert isfinite(row.ttft_p99_s)
            assert isfinite(row.itl_p99_s)


@pytest.mark.parametrize("step_time", [
    {"kind": "roofline", "factor": 1e8},
    {"kind": "linear", "coefficients": {"base_s": 0.0, "prefill_token_s": 0.0, "work_s": 0.0,
                                        "decode_seq_s": 0.0, "context_s": 0.0}},
    {"kind": "tabulated", "coefficients": {
        "knot_tokens": [1, 64, 2048], "knot_s": [0.01, 0.011, 0.2], "decode_seq_s": 0.0,
        "work_s": 0.0, "context_s": 1e-8}},
    "niyama-a100-llama-3-8b",
])
def test_odd_step_times_have_estimates(step_time):
    plain = [{"name": "chat"}, {"name": "batch"}]
    found = estimates(service_classes=plain, plan={"tensor": [1]},
                      replicas=[{"step_time": step_time}])[2]
    candidate = found["a100-80gb-bf16"]
    if isinstance(candidate, Candidate):
        assert candidate.rate_per_s > 0
    else:
        assert "replicas would be needed" in candidate.reason


def test_prefix_caching_has_no_bound_but_an_estimate():
    found = able(engine={"prefix_caching": True})
    assert found
    assert all(c.bound_per_s is not None for c in found.values()), "drawn prompts share nothing"


def test_a_longer_queue_of_targets_is_taken_over_from_the_class():
    found = fleet(service_classes=[CHAT, BATCH]).service_classes
    chat, batch = map(class_targets, found)
    assert (chat.ttft_s, chat.itl_s, chat.itl, chat.percentile) == (2, 0.05, "paced", 99)
    assert not isfinite(chat.e2e_s)
    assert (batch.e2e_s, batch.due_s) == (300, 300)


def test_the_mix_has_rows_of_every_class_of_every_seed():
    _, demand, _ = estimates(traffic(num_requests=1), num_seeds=6)
    assert {c.name for c in demand.classes} == {"chat", "batch"}
    assert set(request_mix(demand).class_index) == {0, 1}
    long = fleet(traffic(mix={"chat": 0.9998, "batch": 0.0002}, num_requests=20_000,
                         rate_per_s=2000))
    demand, = demands_of(long, (fleet_workload(long),))
    mix = request_mix(demand)
    assert set(mix.class_index) == {0, 1}
    assert len(mix.prompt_tokens) <= 12_002


def test_the_mix_s_gaps_are_those_of_the_arrivals():
    _, demand, _ = estimates(traffic(num_requests=4000, rate_per_s=500))
    gaps = request_mix(demand).gaps
    assert (gaps.mean(), gaps.std()) == pytest.approx((1.0, 1.0), abs=0.1)
    _, demand, _ = estimates(traffic(arrivals="constant"))
    assert request_mix(demand).gaps[1:] == pytest.approx(1.0, abs=0.05)
    at_once = replace(demand, workloads=(replace(demand.sample, arrival_s=np.ones(40)),))
    assert (request_mix(at_once).gaps == 1.0).all()


# -- dominance ---------------------------------------------------------------------------


def test_what_a_smaller_kind_does_better_is_dropped():
    found = list(able(accelerators=cards(a100_80gb=None)).values())
    kept, dropped = without_dominated(found, rates_of(found))
    assert [c.variant.name for c in kept] == ["a100-80gb-bf16"]
    assert {d.name for d in dropped} == {"a100-80gb-tp2-bf16", "a100-80gb-tp4-bf16",
                                         "a100-80gb-tp8-bf16"}
    assert "carries more on the same accelerators" in dropped[0].reason


def test_what_is_believed_decides_and_not_what_was_estimated():
    found = list(able(accelerators=cards(a100_80gb=None)).values())
    refuted = {name: rate if "tp2" in name else rate / 1000
               for name, rate in rates_of(found).items()}
    kept, dropped = without_dominated(found, refuted)
    assert "a100-80gb-tp2-bf16" in {c.variant.name for c in kept}
    assert "a100-80gb-tp2-bf16" not in {d.name for d in dropped}


def test_other_accelerators_never_dominate():
    found = list(able(accelerators=cards(h100_80gb=None, a10g=None),
                      plan={"tensor": [1]}).values())
    kept, dropped = without_dominated(found, rates_of(found))
    assert kept == sorted(found, key=lambda c: c.variant.name)
    assert dropped == []


def test_formats_never_dominate_and_at_equal_cost_the_first_name_is_taken():
    sections = {"accelerators": cards(h100_80gb=None), "plan": {"tensor": [1]},
                "models": [{"name": "llama-3-8b", "precisions": ["bf16", "fp8"]}]}
    found = list(able(**sections).values())
    kept, dropped = without_dominated(found, rates_of(found))
    assert [c.variant.name for c in kept] == ["h100-80gb-bf16", "h100-80gb-fp8"]
    assert dropped == []
    plan = planned(**sections)
    assert plan.checked.counts == {"llama-3-8b": (("h100-80gb-bf16", 1),)}


_COUNTS = st.fixed_dictionaries({name: st.sampled_from((None, 1, 2, 4, 9)) for name in (
    "a100_80gb", "l4", "h100_80gb")})
_PRICES = st.tuples(*[st.sampled_from((0.1, 0.7, 1.0, 2.5, 9.0))] * 3)


@pytest.fixture(scope="module")
def all_candidates():
    found, demand, estimated = estimates(
        traffic(lengths=lengths(1500, 150), rate_per_s=40, num_requests=200),
        accelerators=cards(a100_80gb=None, l4=None, h100_80gb=None),
        models=[{"name": "llama-3-8b", "precisions": ["bf16", "int8"]}])
    return found, demand, [e for e in estimated.values() if isinstance(e, Candidate)]


@unit_examples(25)
@given(counts=_COUNTS, prices=_PRICES)
def test_no_optimum_needs_a_dominated_variant(all_candidates, counts, prices):
    """The optimum over all candidates serves no more, and costs no less, than without them."""
    found, demand, candidates = all_candidates
    pools = tuple(replace(pool, count=count, price_per_hour=price) for pool, count, price
                  in zip(found.accelerators, counts.values(), prices, strict=True))
    found = replace(found, accelerators=pools)
    price_of = {pool.accelerator.name: pool.price_per_hour for pool in pools}
    priced = []
    for candidate in candidates:
        group = candidate.variant.group
        cost = group.num_accelerators * price_of[group.accelerator.name]
        priced.append(replace(candidate, variant=replace(candidate.variant, cost_per_hour=cost)))
    kept, dropped = without_dominated(priced, rates_of(priced))
    assert dropped
    rates = {(demand.name, c.variant.name): c.rate_per_s for c in priced}
    choices = [Choice(demand, tuple(priced))]
    pruned = solve(problem_of(found, propose.narrowed(found, choices, rates), rates))
    best = solve(problem_of(found, choices, rates))
    assert {share[1] for share in pruned.shares} <= {
        propose.pool_name(demand.name, c.variant.name) for c in kept}
    assert pruned.served[demand.name] >= best.served[demand.name] - 1e-6
    if best.served[demand.name] > 1 - 1e-6:
        assert pruned.cost_per_hour <= best.cost_per_hour + 1e-6
