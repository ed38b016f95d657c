"""A model that is seldom asked for costs little, and comes back within its start time."""

import numpy as np
import pytest

from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload

FLEET = """\
name: seldom
accelerators: [{{name: a100-80gb, count: 4}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 2, itl_s: 0.05}}}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 500}}, output: {{fixed: 100}}}}, arrivals: {arrivals},
     rate_per_s: 0.000277778, duration_s: {duration_s}}}
replicas: [{{count: 0, min_replicas: 0}}]
scaling: {{start_s: {start_s}}}
policies: {{scale: penstock}}
run: {{seed: {seed}}}
"""


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
@pytest.mark.parametrize(("start_s", "seed", "hours"), [
    (30, 0, 8), pytest.param(60, 1, 24, marks=pytest.mark.long), (120, 2, 8)])
def test_a_request_an_hour_costs_less_than_a_tenth(start_s, seed, hours, arrivals):
    fleet = parse_fleet(FLEET.format(start_s=start_s, seed=seed, arrivals=arrivals,
                                     duration_s=3600 * hours))
    found = run_fleet(fleet, fleet_workload(fleet), seed)
    assert found.summary.scaling.mean_replicas < 0.1
    assert found.summary.scaling.peak_replicas == 1
    assert found.table.finished.all()
    assert len(found.table.arrival_s) >= hours // 2
    assert np.nanmax(found.table.first_token_s - found.table.arrival_s) <= 1.05 * start_s


def test_the_last_replica_stays_for_a_conversation():
    text = FLEET.replace("arrivals: {arrivals}", "arrivals: constant").replace(
        "0.000277778, duration_s: {duration_s}", "0.02, duration_s: 3000")
    fleet = parse_fleet(text.format(start_s=30, seed=0))
    found = run_fleet(fleet, fleet_workload(fleet), 0)
    assert found.summary.scaling.starts == 1
