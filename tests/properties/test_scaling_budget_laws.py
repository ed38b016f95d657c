"""Laws of budgets, of the parts of starts, and of hopeless requests, whatever a scaler asks for."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.experiment.run import Run, run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.scaler import spending_of
from penstock.fleet.sources import fleet_workload
from penstock.policy.scale.budget import BudgetSharing, Spending
from penstock.policy.scale.hopeless import HOPELESS
from penstock.policy.scale.protocol import Budget, GroupFacts
from penstock.policy.scale.values import Observation, ScalingDecision
from penstock.sim.scaling import build
from support.scaled_examples import examples

FLEET = """\
name: scaled
accelerators: [{{name: a100-80gb, price_per_hour: 2}}]
models: [{{name: llama-3-8b}}]
service_classes:
  - {{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}
  - {{name: batch, priority: 2, slo: {{e2e_s: 9}}}}
  - {{name: free}}
traffic:
  - mix: {{chat: 0.5, batch: 0.3, free: 0.2}}
    lengths:
      prompt: {{shares: [0, 1], tokens: [10, 3000]}}
      output: {{shares: [0, 1], tokens: [1, 80]}}
    rate_per_s: 4
    num_requests: {num}
replicas:
  - {{count: {first}, min_replicas: {floor}, max_replicas: 5}}
  - {{count: {floor}, min_replicas: {floor}, max_replicas: 3, parallelism: {{tensor: 2}}, {own}}}
engine: {{kv_tokens: 20000}}
scaling:
  start: {{provision_s: {provision_s}, image_s: 1.5, weights: {{source: disk, gb_per_s: 20}},
           warm_up_s: 0.25, spread: {spread}}}
  hold_until: {hold_until}
  {budget}
  faults: {{failed_start_share: {fails}, failures_per_hour: {fails}00}}
policies: {{scale: {scale}}}
run: {{seed: 1, beliefs: exact}}
"""
fleets = st.fixed_dictionaries({
    "num": st.integers(1, 50), "floor": st.integers(0, 1), "first": st.integers(1, 2),
    "own": st.sampled_from(["start_s: 3", "start: {image_s: 0}"]),
    "provision_s": st.sampled_from([0, 0.5, 9]), "spread": st.sampled_from(["0", "0.5"]),
    "hold_until": st.sampled_from(["hold_s", "hopeless"]),
    "budget": st.sampled_from(["budget: {cost_per_hour: 8}", "budget: {power_w: 2400}",
                               "budget: {cost_per_hour: 12, power_w: 2000}"]),
    "fails": st.sampled_from([0, 0.5]), "scale": st.just("static")})
scripts = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=12)


class Scripted:
    """Asks for the targets of a script, one after another and again from its beginning."""

    wakes = False
    period_s = 2.0

    def __init__(self, script: list[tuple[int, int]]) -> None:
        self.num = 0
        self._script = script

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        self.num += 1
        return ScalingDecision(self._script[(self.num - 1) % len(self._script)], "script")


@pytest.fixture(scope="module")
def patches() -> pytest.MonkeyPatch:
    return pytest.MonkeyPatch()


def ran(one: dict[str, object], script: list[tuple[int, int]] | None,
        patches: pytest.MonkeyPatch) -> Run:
    fleet = parse_fleet(FLEET.format(**one))
    with patches.context() as patch:
        if script is not None:
            patch.setattr(build, "scaler_of", lambda *_: Scripted(script))
        return run_fleet(fleet, fleet_workload(fleet), 1)


def held_over_time(found: Run) -> list[list[int]]:
    """Return the held replicas of both groups at every instant with a change."""
    held, present = [], [0, 0]
    changes = found.summary.scaling.changes
    for change, after in pairwise([*changes, None]):
        present[change.group] = change.held
        if after is None or after.at_s > change.at_s:
            held.append(list(present))
    return held


@examples(60)
@given(fleets, scripts)
def test_at_no_moment_do_held_replicas_exceed_the_budget(patches, one, script):
    found = ran(one, script, patches)
    spending = spending_of(parse_fleet(FLEET.format(**one)))
    assert all(spending.fits(held) for held in held_over_time(found))
    assert int(found.table.finished.sum()) + sum(found.result.reasons.values()) == len(found.table)


@pytest.mark.parametrize("scale", ["penstock", "{name: hpa, target: 1}", "wva-tokens"])
@examples(8)
@given(fleets)
def test_every_policy_keeps_the_budget(patches, scale, one):
    found = ran({**one, "scale": scale}, None, patches)
    spending = spending_of(parse_fleet(FLEET.format(**one)))
    assert all(spending.fits(held) for held in held_over_time(found))


@examples(30)
@given(fleets, scripts)
def test_a_start_takes_the_sum_of_its_parts(patches, one, script):
    found = ran({**one, "spread": "0", "fails": 0}, script, patches)
    scaling = found.summary.scaling
    for number, group in enumerate(scaling.groups):
        expected_s = 3.0 if group.start_parts_s is None else sum(group.start_parts_s.values())
        own = [change for change in scaling.changes if change.group == number]
        begun = {change.at_s for change in own if change.starting}
        for before, after in pairwise(own):
            if after.ready > before.ready and after.starting < before.starting:
                assert any(abs(after.at_s - at_s - expected_s) < 1e-9 for at_s in begun)


@examples(20)
@given(fleets, scripts)
def test_the_same_seed_gives_the_same_run(patches, one, script):
    found, again = (ran(one, script, patches) for _ in range(2))
    assert json.dumps(found.summary.document(), sort_keys=True) == json.dumps(
        again.summary.document(), sort_keys=True)


@examples(40)
@given(fleets, scripts)
def test_a_request_that_was_refused_as_hopeless_would_have_missed(patches, one, script):
    """Where replicas come and go by a script and nothing else limits them."""
    one = {**one, "budget": "", "fails": 0}
    refused = ran({**one, "hold_until": "hopeless"}, script, patches)
    held = ran({**one, "hold_until": "hold_s"}, script, patches)
    hopeless = refused.result.reasons.get(HOPELESS, 0)
    late = ~refused.table.finished
    assert int(late.sum()) == sum(refused.result.reasons.values())
    if hopeless:
        names = [refused.table.service_classes[index]
                 for index in refused.table.class_index[late].tolist()]
        assert names.count("free") <= sum(refused.result.reasons.values()) - hopeless
        wait_s = held.table.first_token_s[late] - held.table.arrival_s[late]
        limits_s = np.array([{"chat": 2.0, "batch": 9.0, "free": 600.0}[name] for name in names])
        assert np.all(np.isnan(wait_s) | (wait_s >= limits_s - 1e-6))


def test_an_unused_feature_changes_no_byte(patches):
    plain = {"num": 30, "floor": 0, "first": 1, "own": "start_s: 3", "provision_s": 1,
             "spread": "0.5", "hold_until": "hold_s", "budget": "", "fails": 0, "scale": "penstock"}
    found = ran(plain, None, patches)
    wide = ran({**plain, "budget": "budget: {cost_per_hour: 1e6, power_w: 1e9}"}, None, patches)
    assert json.dumps(found.summary.document()) == json.dumps(wide.summary.document())


groups = st.lists(st.builds(
    lambda model, floor, cost, power_w: GroupFacts(
        f"m{model}", floor, 40, floor, cost, 60.0, 1000, power_w=power_w),
    st.integers(0, 3), st.integers(0, 2), st.sampled_from([1.0, 2.5, 7.0]),
    st.sampled_from([100.0, 350.0])), min_size=1, max_size=6)


@examples(300)
@given(groups, st.data())
def test_a_shared_budget_holds_what_it_grants_and_has_room_for_nothing_that_is_wanted(found, data):
    wanted = [data.draw(st.integers(one.floor, 40)) for one in found]
    present = [data.draw(st.integers(0, 40)) for _ in found]
    worth = [data.draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in found]
    least = sum(one.floor * one.cost_per_hour for one in found)
    power_w = sum(one.floor * one.power_w for one in found)
    budget = Budget(least + data.draw(st.sampled_from([0.0, 5.0, 60.0])) + 0.5,
                    data.draw(st.sampled_from([None, power_w + 1000.0])))
    spending = Spending(budget, found)
    shared = BudgetSharing(budget, found).shared(wanted, present, worth)
    if shared is None:
        assert spending.fits(wanted)
        return
    assert not spending.fits(wanted)
    assert spending.fits(shared.counts)
    for number, (one, count, most) in enumerate(zip(found, shared.counts, wanted, strict=True)):
        assert one.floor <= count <= most
        assert count == most or not spending.has_room(shared.counts, number)
    again = BudgetSharing(budget, found).shared(wanted, shared.counts, worth)
    assert again == shared
