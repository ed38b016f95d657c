"""Laws of simulated scaling, whatever a scaler asks for."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.policy.scale.values import Observation, ScalingDecision
from penstock.sim.scaling import build
from support.scaled_examples import examples

FLEET = """\
name: scaled
accelerators: [{{name: a100-80gb, count: {gpus}}}]
models: [{{name: llama-3-8b}}]
service_classes:
  - {{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}
  - {{name: batch, priority: 2, slo: {{e2e_s: 60}}}}
traffic:
  - name: first
    mix: {{chat: 0.5, batch: 0.5}}
    lengths:
      prompt: {{shares: [0, 1], tokens: [10, 3000]}}
      output: {{shares: [0, 1], tokens: [1, 80]}}
    rate_per_s: 4
    num_requests: {num}
  - {{name: later, mix: {{chat: 1}},
     lengths: {{prompt: {{fixed: 200}}, output: {{fixed: {output}}}}},
     rate_per_s: 5, num_requests: 20, start_s: 30}}
replicas:
  - {{count: {first}, min_replicas: {floor}, max_replicas: {most}, service_classes: [chat]}}
  - {{count: 1, min_replicas: {floor}, max_replicas: 2, start_s: 3}}
engine: {{kv_tokens: 20000, prefix_caching: {caching}}}
scaling: {{start_s: {start_s}, start_spread: {spread}, hold_s: {hold_s}}}
policies: {{schedule: {schedule}, scale: static}}
run: {{seed: 1}}
"""
fleets = st.fixed_dictionaries({
    "gpus": st.integers(4, 9), "num": st.integers(1, 60), "floor": st.integers(0, 1),
    "first": st.integers(1, 2), "most": st.integers(2, 4), "output": st.just(20),
    "caching": st.sampled_from(["true", "false"]), "start_s": st.sampled_from([0.5, 7, 40]),
    "spread": st.sampled_from([0, 0.5]), "hold_s": st.sampled_from([1, 600]),
    "schedule": st.sampled_from(["sarathi", "penstock"])})
scripts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=12)


class Scripted:
    """Asks for the targets of a script, one after another and again from its beginning."""

    def __init__(self, script: list[tuple[int, int]], period_s: float) -> None:
        self.period_s = period_s
        self.wakes = False
        self.seen: list[Observation] = []
        self._script = script

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        assert seen.observed_s == now_s
        self.seen.append(seen)
        return ScalingDecision(self._script[(len(self.seen) - 1) % len(self._script)], "script")


def ran(one: dict[str, object], script: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch,
        period_s: float = 2.0) -> tuple[Run, Scripted]:
    fleet = parse_fleet(FLEET.format(**one))
    scaler = Scripted(script, period_s)
    with monkeypatch.context() as patch:
        patch.setattr(build, "scaler_of", lambda *_: scaler)
        return run_fleet(fleet, fleet_workload(fleet), 1), scaler


@pytest.fixture(scope="module")
def patches() -> pytest.MonkeyPatch:
    return pytest.MonkeyPatch()


@examples(60)
@given(fleets, scripts)
def test_every_request_ends_once(patches, one, script):
    found, scaler = ran(one, script, patches)
    table = found.table
    assert len(table) == one["num"] + 20
    held_too_long = found.result.reasons.get("no replica was ready in time", 0)
    assert int(table.finished.sum()) + held_too_long == len(table)
    assert not held_too_long or one["hold_s"] == 1 or one["floor"] == 0
    last = scaler.seen[-1]
    arrived = sum(one.num_arrived for one in last.demand)
    finished = sum(group.totals.num_finished for group in last.groups)
    running = sum(replica.gauges.num_running + replica.gauges.num_waiting
                  for group in last.groups for replica in group.of("ready", "draining"))
    waiting = sum(one.num_held for one in last.demand)
    assert finished == sum(one.num_finished for one in last.demand)
    assert all(sum(group.totals.e2e) == group.totals.num_finished for group in last.groups)
    # A request that an engine has not read yet is in no gauge of the scheduler's running ones.
    assert finished + running + waiting <= arrived
    assert sum(last.groups[0].totals.ttft) + sum(last.groups[1].totals.ttft) >= finished


@examples(40)
@given(fleets, scripts)
def test_prompt_tokens_are_held_in_flight_or_answered(patches, one, script):
    _, scaler = ran(one, script, patches)
    for seen in scaler.seen:
        answered = sum(group.totals.prompt_tokens for group in seen.groups)
        cached = sum(group.totals.cached_tokens for group in seen.groups)
        flying = sum(replica.inflight_tokens for group in seen.groups
                     for replica in group.of("ready", "draining"))
        held = sum(one.held_tokens for one in seen.demand)
        assert bool(held) == any(one.num_held for one in seen.demand)
        if not any(one.num_lost for one in seen.demand):
            assert answered + flying + held == sum(one.prompt_tokens for one in seen.demand)
        assert 0 <= cached <= answered + flying
        assert one["caching"] == "true" or not cached


@examples(60)
@given(fleets, scripts)
def test_bounds_and_accelerators_hold_and_time_is_paid(patches, one, script):
    found, _ = ran(one, script, patches)
    scaling = found.summary.scaling
    tallest = {0: one["most"], 1: 2}
    held_s = {0: 0.0, 1: 0.0}
    for group in (0, 1):
        own = [change for change in scaling.changes if change.group == group]
        assert all(one["floor"] <= change.target <= tallest[group] for change in own[1:])
        times = [change.at_s for change in own]
        assert times == sorted(times)
        for now, after in pairwise([*times, found.result.end_s]):
            change = own[times.index(now)]
            held_s[group] += (change.starting + change.ready + change.draining) * max(
                0.0, after - now)
    for number, group in enumerate(scaling.groups):
        assert group.gpu_hours * 3600 == pytest.approx(held_s[number], abs=1e-6)
    assert scaling.peak_replicas <= one["gpus"]
    assert scaling.cost == pytest.approx(found.summary.overall.cost.per_hour
                                         * found.result.end_s / 3600)


@examples(30)
@given(fleets, scripts)
def test_nobody_serves_before_a_replica_is_ready(patches, one, script):
    found, scaler = ran(one, script, patches)
    ready = [(change.at_s, change.group, change.ready + change.draining)
             for change in found.summary.scaling.changes]
    for first_s in found.table.first_scheduled_s[~np.isnan(found.table.first_scheduled_s)]:
        present = {group: count for at_s, group, count in ready if at_s <= first_s + 1e-9}
        before = {group: count for at_s, group, count in ready if at_s < first_s - 1e-9}
        assert sum(present.values()) or sum(before.values())
    starts = [replica for seen in scaler.seen for group in seen.groups
              for replica in group.of("starting")]
    assert all(replica.gauges is None for replica in starts)


@examples(20)
@given(fleets, scripts)
def test_the_same_seed_gives_the_same_run(patches, one, script):
    found, again = (ran(one, script, patches)[0] for _ in range(2))
    assert json.dumps(found.summary.document(), sort_keys=True) == json.dumps(
        again.summary.document(), sort_keys=True)


@examples(30)
@given(fleets, scripts, st.sampled_from([1, 60, 300]))
def test_observations_do_not_know_the_future(patches, one, script, output):
    """Requests from 30 s on have other answers: no observation before differs."""
    _, scaler = ran(one, script, patches)
    _, other = ran({**one, "output": output}, script, patches)
    early = [[seen for seen in found.seen if seen.observed_s <= 30] for found in (scaler, other)]
    assert early[0] == early[1]


POLICIES = ["static", "{name: hpa, target: 4}", "{name: kpa, target: 4}",
            "{name: ray, target_ongoing_requests: 4}", "llm-d-slo",
            "{name: inferno, warm_up_cycles: 1}",
            "{name: aibrix-apa, target: 4}", "wva-percent", "wva-tokens",
            "{name: block, slo_s: 1}", "llm-d-tokens",
            "{name: dynamo, optimization_target: sla, throughput_adjustment_interval_s: 20}"]


@pytest.mark.parametrize("policy", POLICIES)
@examples(6)
@given(fleets)
def test_every_scaler_keeps_the_laws(policy, one):
    fleet = parse_fleet(FLEET.format(**one).replace("scale: static", f"scale: {policy}"))
    found = run_fleet(fleet, fleet_workload(fleet), 1)
    late = found.result.reasons.get("no replica was ready in time", 0)
    assert int(found.table.finished.sum()) + late == len(found.table)
    assert found.summary.scaling.policy in policy
