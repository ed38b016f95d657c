"""How fast replicas are, relative to the fastest of their model, and what a router makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from penstock.fleet.replica_factory import relative_speeds
from penstock.fleet.sources import fleet_workload
from penstock.sim.simulation import simulate
from support.small_plans import TWO_MODELS, cards, fleet, lengths, traffic


def test_speeds_are_relative_to_the_fastest_of_the_model():
    found = fleet(traffic(model="llama-3-8b"), models=TWO_MODELS,
                  accelerators=cards(a100_80gb=4, l4=2), replicas=[
                      {"model": "llama-3-8b", "accelerator": "l4", "count": 2},
                      {"model": "llama-3-8b", "accelerator": "a100-80gb"},
                      {"model": "qwen2.5-7b", "accelerator": "a100-80gb"}])
    slow, also_slow, fast, alone = relative_speeds(found)
    assert slow == also_slow
    assert 0.0 < slow < 0.5
    assert fast == alone == 1.0


def test_a_stated_step_time_counts():
    found = fleet(replicas=[{"step_time": {"kind": "roofline", "factor": 4.0}}, {}])
    assert relative_speeds(found) == pytest.approx([0.25, 1.0])


def test_a_step_that_takes_no_time_is_not_divided_by():
    names = ("base_s", "prefill_token_s", "work_s", "decode_seq_s", "context_s")
    free = {"kind": "linear", "coefficients": dict.fromkeys(names, 0.0)}
    assert relative_speeds(fleet(replicas=[{"step_time": free, "count": 2}])) == [1.0, 1.0]


@pytest.mark.parametrize("route", ["least_loaded", "two_choices"])
def test_faster_replicas_get_more(route):
    found = fleet(traffic(rate_per_s=60, num_requests=200, lengths=lengths(1500, 20)),
                  policies={"route": route},
                  replicas=[{"step_time": {"kind": "roofline", "factor": 4.0}}, {}])
    table = simulate(found, fleet_workload(found)).table
    slow, fast = np.bincount(table.replica.astype(int), minlength=2)
    assert slow + fast == 200
    assert 2.0 * slow < fast


def test_equal_replicas_share_equally():
    found = fleet(traffic(rate_per_s=60, num_requests=200), replicas=[{"count": 2}])
    table = simulate(found, fleet_workload(found)).table
    one, other = np.bincount(table.replica.astype(int), minlength=2)
    assert abs(one - other) < 40
    apart = replace(found, replicas=(replace(found.replicas[0], count=1),) * 2)
    assert relative_speeds(apart) == [1.0, 1.0]
