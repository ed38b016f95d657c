"""A demand's replicas before its real arrivals."""

from dataclasses import replace
from math import isnan
from types import SimpleNamespace

import numpy as np
import pytest

from penstock.fleet.judge import attainment_by_class
from penstock.fleet.sources import fleet_workload
from penstock.metrics.table import UNFINISHED
from penstock.plan import judge as module
from penstock.plan.demands import demands_of
from penstock.plan.judge import distinct, holds, judge, quantile, thinned
from penstock.plan.variants import variants_of
from penstock.policy.schedule.options import PRESETS
from penstock.sim.simulation import simulate
from support.small_plans import BATCH, cards, fleet, lengths, traffic


def ready(*entries, num_seeds=2, count=1, **sections):
    """(fleet, demand, groups) with replicas of the first variant."""
    found = fleet(*entries, **sections)
    demand, = demands_of(found, tuple(fleet_workload(found, s) for s in range(num_seeds)))
    variant = variants_of(found, demand.model, demand.longest_tokens)[0][0]
    return found, demand, (replace(variant.group, count=count),)


def test_the_verdict_is_what_a_run_of_each_seed_gives():
    found, demand, groups = ready(traffic(rate_per_s=60, lengths=lengths(2000, 40)), count=2,
                                  service_classes=[{"name": "chat", "slo": {"ttft_s": 0.5}}, BATCH])
    verdict = judge(found, demand, groups, seed=0)
    alone = replace(found, replicas=groups)
    runs = [attainment_by_class(alone, simulate(alone, w, seed=s).table)
            for s, w in enumerate(demand.workloads)]
    runs = runs[:verdict.num_seeds]
    for outcome in verdict.classes:
        assert outcome.worst_share == min(run[outcome.name].share for run in runs)
        assert outcome.attainment.met == sum(run[outcome.name].met for run in runs)
        assert outcome.ttft_p50_s <= outcome.ttft_p99_s
    assert verdict.meets is all(run["chat"].meets(99) and run["batch"].meets(99) for run in runs)


def test_seeds_after_a_miss_are_not_simulated():
    found, demand, groups = ready(num_seeds=3, service_classes=[
        {"name": "chat", "slo": {"ttft_s": 0.001}}, BATCH])
    verdict = judge(found, demand, groups, seed=0)
    assert (verdict.meets, verdict.num_seeds) == (False, 1)
    found, demand, groups = ready(num_seeds=3)
    verdict = judge(found, demand, groups, seed=0)
    assert (verdict.meets, verdict.num_seeds) == (True, 3)


def test_a_class_without_targets_always_meets():
    found, demand, groups = ready(service_classes=[{"name": "chat"}, {"name": "batch"}])
    assert judge(found, demand, groups, seed=0).meets


def test_a_trace_at_its_own_times_is_simulated_once(tmp_path):
    rows = "".join(f"{i / 10},300,20\n" for i in range(30))
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    own = {"mix": {"chat": 1.0}, "trace": {"file": str(tmp_path / "t.csv")}}
    found, demand, groups = ready(own, num_seeds=3, run={"beliefs": "exact"})
    assert len(distinct(demand.workloads)) == 1
    assert judge(found, demand, groups, seed=0).num_seeds == 1
    noisy = replace(found, run=replace(found.run, step_time_noise=0.1))
    assert judge(noisy, demand, groups, seed=0).num_seeds == 3, "each seed has its own noise"
    off = replace(found, run=replace(found.run, beliefs="model"))
    assert judge(off, demand, groups, seed=0).num_seeds == 3, "each seed has its own devices"
    uncertain = replace(found, run=replace(found.run, beliefs="uncertain"))
    assert judge(uncertain, demand, groups, seed=0).num_seeds == 3, "each seed has its own belief"
    believing = replace(uncertain.policies, schedule=PRESETS["sarathi"])
    plain = replace(uncertain, policies=believing)
    assert judge(plain, demand, groups, seed=0).num_seeds == 1, "the scheduler reads no step times"
    unlike = (*groups, replace(groups[0], precision="fp8"))
    assert judge(plain, demand, unlike, seed=0).num_seeds == 3, "the router believes speeds"
    for route in ("two_choices", "random"):
        drawn = fleet(own, policies={"route": route}, run={"beliefs": "exact"})
        assert judge(drawn, demand, groups, seed=0).num_seeds == 3, "each seed draws its own routes"


def test_classes_drawn_by_seed_make_a_trace_s_seeds_distinct(tmp_path):
    rows = "".join(f"{i / 10},300,20\n" for i in range(30))
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    _, demand, _ = ready({"mix": {"chat": 0.5, "batch": 0.5},
                          "trace": {"file": str(tmp_path / "t.csv")}})
    assert len(distinct(demand.workloads)) == 2


def test_noise_comes_from_the_run_s_seed(monkeypatch):
    found, demand, groups = ready()
    seeds = []

    def spy(fleet, workload, *, seed, lost):
        seeds.append(seed)
        return simulate(fleet, workload, seed=seed, lost=lost)

    monkeypatch.setattr(module, "simulate", spy)
    judge(found, demand, groups, seed=40)
    assert seeds == [40, 41, 40, 41]  # each once as drawn and once a little faster


def test_replicas_at_the_edge_are_told_from_those_that_miss(monkeypatch):
    """Somewhere between ease and misses there are replicas that only faster arrivals break."""
    found, demand, groups = ready(traffic(rate_per_s=2, lengths=lengths(2000, 40)))
    assert not judge(found, demand, groups, seed=0).only_faster_missed
    monkeypatch.setattr(module, "chance", lambda workload: 1000.0)
    verdict = judge(found, demand, groups, seed=0)
    assert not verdict.meets
    assert verdict.only_faster_missed
    assert all(c.attainment.share == 1.0 for c in verdict.classes)
    late, crowd, groups = ready(traffic(rate_per_s=400, num_requests=200,
                                        lengths=lengths(2000, 40)))
    missed = judge(late, crowd, groups, seed=0)
    assert (missed.meets, missed.only_faster_missed) == (False, False)


@pytest.mark.parametrize("share", [0.9, 0.5, 1 / 3, 0.07])
def test_thinned_traffic_is_evenly_spaced(share):
    _, demand, _ = ready(traffic(num_requests=200))
    kept = thinned(demand.sample, share)
    assert abs(len(kept) - 200 * share) <= 1
    rows = np.searchsorted(demand.sample.arrival_s, kept.arrival_s)
    assert np.ptp(np.diff(rows)) <= 1


def test_thinned_traffic_is_all_or_at_least_one():
    _, demand, _ = ready()
    assert thinned(demand.sample, 1.0) is demand.sample
    for share in (0.0, 1e-9, 0.02):
        assert len(thinned(demand.sample, share)) == 1


def test_a_share_is_judged_on_what_enters():
    found, demand, groups = ready(traffic(rate_per_s=400, num_requests=200,
                                          lengths=lengths(2000, 40)))
    assert not judge(found, demand, groups, seed=0).meets
    part = judge(found, demand, groups, seed=0, share=0.05)
    assert part.meets
    assert sum(outcome.attainment.received for outcome in part.classes) == 2 * 10


def test_requests_before_the_warm_up_do_not_count():
    found, demand, groups = ready(run={"warmup_s": 4})
    counted = sum(c.attainment.received for c in judge(found, demand, groups, seed=0).classes)
    assert counted == sum(int((w.arrival_s >= 4).sum()) for w in demand.workloads)


def test_replicas_of_several_kinds_share_a_demand():
    found, demand, groups = ready(accelerators=cards(a100_80gb=1, l4=2))
    both = (*groups, variants_of(found, demand.model, 440)[0][1].group)
    assert {g.accelerator.name for g in both} == {"a100-80gb", "l4"}
    assert judge(found, demand, both, seed=0).meets


@pytest.mark.parametrize(("values", "share", "expected"), [
    ([3.0, 1.0, 2.0], 0.5, 2.0), ([3.0, 1.0, 2.0], 0.99, 3.0), ([5.0, float("nan")], 0.5, 5.0),
    ([1.0, 2.0], 0.5, 1.0), ([4.0], 0.0, 4.0)])
def test_quantiles_are_by_nearest_rank(values, share, expected):
    assert quantile(np.array(values), share) == expected


def test_a_quantile_of_nothing_is_unknown():
    assert isnan(quantile(np.array([]), 0.5))
    assert isnan(quantile(np.array([float("nan")]), 0.5))


def test_confidence_asks_for_expected_step_times_too(monkeypatch):
    """A router may send more requests to a replica that is fast enough only for few."""
    found, demand, groups = ready(plan={"confidence": 0.95})
    simulated = []
    monkeypatch.setattr(module, "_judged", lambda fleet, demand, groups, *_, faster=True, whole: (
        simulated.append((groups, faster)) or SimpleNamespace(meets=True)))
    assert judge(found, demand, groups, seed=0).meets
    (slow, _), (usual, faster) = simulated
    assert slow[0].step_time["factor"] > 1.0
    assert usual == groups
    assert not faster


@pytest.mark.parametrize("rate_per_s", [20, 60, 90, 150, 400])
def test_a_simulation_that_ends_early_says_what_the_whole_one_says(rate_per_s):
    found, demand, groups = ready(
        traffic(rate_per_s=rate_per_s, num_requests=400, lengths=lengths(2000, 40)), count=2,
        service_classes=[{"name": "chat", "slo": {"ttft_s": 0.5}}, BATCH])
    whole = judge(found, demand, groups, seed=0)
    early = judge(found, demand, groups, seed=0, whole=False)
    assert (early.meets, early.num_seeds) == (whole.meets, whole.num_seeds)
    assert early.only_faster_missed == whole.only_faster_missed
    for soon, late in zip(early.classes, whole.classes, strict=True):
        assert soon.worst_share >= late.worst_share
    assert holds(found, demand, groups, seed=0) == (whole.meets or whole.only_faster_missed)


def test_a_lost_simulation_ends_early():
    found, demand, groups = ready(
        traffic(rate_per_s=400, num_requests=400, lengths=lengths(2000, 40)),
        service_classes=[{"name": "chat", "slo": {"ttft_s": 0.1}}, BATCH])
    alone, workload = replace(found, replicas=groups), demand.workloads[0]
    whole = simulate(alone, workload)
    early = simulate(alone, workload, lost=lambda table: (table.status != UNFINISHED).sum() > 40)
    assert early.num_steps < whole.num_steps
    ended = early.table.status != UNFINISHED
    assert 40 < ended.sum() < 400
    assert (early.table.met_slo[ended] == whole.table.met_slo[ended]).all()
