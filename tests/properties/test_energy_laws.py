"""Laws of energy and of deferred requests, whatever a fleet does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.power import CarbonIntensity
from penstock.core.slo import ServiceClass, Slo
from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.protocol import GroupFacts, ReplicaRate, ScalerContext
from support.scaled_examples import examples

FLEET = """\
name: deferred
accelerators: [{{name: a100-80gb, count: 4, power: {{idle_w: {idle}, mid_w: 320}}}}]
models: [{{name: llama-3-8b}}]
service_classes:
  - {{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}
  - {{name: batch, priority: 2, slo: {{ttft_s: 900}}{defer}}}
traffic:
  - name: both
    mix: {{chat: 0.5, batch: 0.5}}
    lengths:
      prompt: {{shares: [0, 1], tokens: [10, 3000]}}
      output: {{shares: [0, 1], tokens: [1, 80]}}
    rate_per_s: {rate}
    num_requests: {num}
replicas: [{{count: {first}, min_replicas: {first}, max_replicas: 3}}]
scaling: {{start_s: 20, objective: energy{carbon}}}
policies: {{scale: {scale}}}
run: {{seed: {seed}}}
"""
SERIES = ", carbon: {points: [{time_s: 0, gco2_per_kwh: 300}, {time_s: 40, gco2_per_kwh: 90}], " \
         "repeat_s: 80}"
CLASSES = {"batch": ServiceClass("batch", Slo(), defer_s=30.0),
           "night": ServiceClass("night", Slo(), defer_s=100.0)}
fleets = st.fixed_dictionaries({
    "idle": st.sampled_from([0, 150]), "rate": st.sampled_from([1, 5]), "num": st.integers(1, 60),
    "first": st.integers(0, 1), "carbon": st.sampled_from(["", SERIES]), "seed": st.integers(0, 3),
    "scale": st.sampled_from(["penstock", "static", "{name: ray, target_ongoing_requests: 4}"])})


def ran(one, defer_s=None):
    defer = "" if defer_s is None else f", defer_s: {defer_s}"
    fleet = parse_fleet(FLEET.format(**one, defer=defer))
    return run_fleet(fleet, fleet_workload(fleet), one["seed"])


@examples(40)
@given(fleets, st.sampled_from([None, 30]))
def test_energy_is_between_idle_and_full_power_of_what_was_held(one, defer_s):
    scaling = ran(one, defer_s).summary.scaling
    kwh = scaling.gpu_hours / 1000.0
    assert one["idle"] * kwh * (1 - 1e-9) <= scaling.energy_kwh <= 400.0 * kwh * (1 + 1e-9)
    if scaling.carbon_kg is not None:
        assert 0.09 * scaling.energy_kwh * (1 - 1e-9) <= scaling.carbon_kg \
            <= 0.3 * scaling.energy_kwh * (1 + 1e-9)
    assert scaling.power_coverage == (1.0 if scaling.gpu_hours else None)


@examples(40)
@given(fleets, st.sampled_from([5.0, 30.0, 120.0]))
def test_every_deferred_request_is_served_and_none_is_held_longer_than_allowed(one, defer_s):
    fleet = parse_fleet(FLEET.format(**one, defer=f", defer_s: {defer_s}"))
    found = run_fleet(fleet, fleet_workload(fleet), one["seed"])
    table, scaling = found.table, found.summary.scaling
    if one["scale"] != "static" or one["first"]:
        assert table.finished.all()
    batch = table.service_classes.index("batch")
    assert scaling.num_deferred == int((table.class_index == batch).sum())
    assert (scaling.deferred_mean_s or 0.0) <= defer_s + 1e-6


arrivals = st.lists(st.tuples(st.floats(0.0, 50.0), st.sampled_from(["batch", "night"])),
                    max_size=30)
looks = st.lists(st.tuples(st.floats(0.0, 200.0), st.floats(0.0, 5.0)), max_size=10)


@examples(200)
@given(arrivals, looks, st.booleans())
def test_a_deferral_sends_each_request_once_and_not_after_its_due_time(arriving, looking, priced):
    context = ScalerContext((GroupFacts("m", 0, 9, 1, 1.0, 60.0, 1000),), CLASSES,
                            (lambda _: ReplicaRate(2.0, 2.5),))
    deferral = Deferral(context, CarbonIntensity((0.0, 40.0), (300.0, 90.0), 80.0)
                        if priced else None)
    events = sorted([(at_s, 0, name) for at_s, name in arriving]
                    + [(at_s, 1, per_s) for at_s, per_s in looking])
    due_s, sent, now_s = {}, {}, 0.0

    def send():
        for one in deferral.send(now_s):
            assert one.item not in sent
            sent[one.item] = now_s

    while events or deferral.num_held:
        if events and events[0][0] <= deferral.next_s(now_s):
            now_s, kind, value = events.pop(0)
            if kind == 1:
                deferral.allow([value])
            else:
                due_s[len(due_s)] = deferral.hold(len(due_s), "m", value, now_s).due_s
        else:
            now_s = deferral.next_s(now_s)
            send()
    assert sent.keys() == due_s.keys()
    assert all(sent[item] <= due_s[item] + 1e-9 for item in sent)


@examples(20)
@given(fleets)
def test_a_class_that_is_sent_at_once_changes_nothing(one):
    usual = ran({**one, "carbon": ""})
    priced = ran({**one, "carbon": SERIES})
    assert np.array_equal(usual.table.last_token_s, priced.table.last_token_s, equal_nan=True)
    assert usual.summary.scaling.changes == priced.summary.scaling.changes
    assert usual.summary.scaling.num_deferred is None
