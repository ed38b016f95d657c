"""Energy of a run from held and busy time."""

import numpy as np
import pytest

from penstock.core.power import PowerCurve
from penstock.experiment.energy import HeldTime, held_time, joules_by_bin, total
from penstock.experiment.run import run_fleet
from penstock.fleet.load import parse_fleet
from penstock.fleet.sources import fleet_workload
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.scaling_summary import ScalingEvent

FLEET = """\
accelerators: [{{name: {chip}, count: 2, price_per_hour: 2{power}}}]
models: [{{name: llama-3-8b}}]
service_classes: [{{name: chat, slo: {{ttft_s: 9}}}}]
traffic:
  - {{lengths: {{prompt: {{fixed: 800}}, output: {{fixed: 20}}}}, arrivals: constant,
     rate_per_s: 0.5, num_requests: 60}}
replicas: [{{count: 2}}]
scaling: {{start_s: 60{scaling}}}
policies: {{scale: {scale}}}
"""


def scaled(chip="l40s", power="", scaling="", scale="static"):
    fleet = parse_fleet(FLEET.format(chip=chip, power=power, scaling=scaling, scale=scale))
    return run_fleet(fleet, fleet_workload(fleet), 1)


def event(at_s, starting, ready, draining=0):
    return ScalingEvent(at_s=at_s, group=0, target=0, waiting=9, starting=starting, ready=ready,
                        draining=draining)


def test_held_time_by_bin():
    found = held_time([event(0.0, 1, 0), event(90.0, 0, 1), event(100.0, 0, 1, 1)],
                      np.array([0.0, 60.0, 120.0, 130.0]))
    assert found.starting_s.tolist() == [60.0, 30.0, 0.0]
    assert found.serving_s.tolist() == [0.0, 10.0 + 40.0, 20.0]


def test_starting_replicas_are_idle_and_serving_ones_follow_their_busy_share():
    held = HeldTime(np.array([60.0, 0.0, 0.0]), np.array([0.0, 100.0, 10.0]))
    found = joules_by_bin(PowerCurve(100.0, 250.0, 350.0), held, np.array([0.0, 60.0, 10.0]))
    assert found.tolist() == pytest.approx([6000.0, 25_000.0, 3500.0])


def test_the_energy_of_a_run_is_that_of_its_busy_share():
    # A straight line, so that the energy follows from totals.
    found = scaled(power=", power: {idle_w: 100, full_w: 300}",
                   scaling=", carbon: {gco2_per_kwh: 500}")
    scaling, busy_s = found.summary.scaling, float(found.result.busy_s.sum())
    joules = 100.0 * 3600.0 * scaling.gpu_hours + 200.0 * busy_s
    assert busy_s > 1.0
    assert scaling.energy_kwh == pytest.approx(joules / 3.6e6)
    assert scaling.carbon_kg == pytest.approx(0.5 * scaling.energy_kwh)
    assert scaling.power_coverage == 1.0
    assert scaling.groups[0].energy_kwh == scaling.energy_kwh


def test_carbon_follows_the_series():
    series = ", carbon: {points: [{time_s: 0, gco2_per_kwh: 0}, {time_s: 60, gco2_per_kwh: 900}]}"
    found = scaled(scaling=series).summary.scaling
    assert 0.3 * 0.9 * found.energy_kwh < found.carbon_kg < 0.7 * 0.9 * found.energy_kwh


def test_energy_is_unknown_without_a_curve_and_carbon_without_an_intensity():
    found = scaled("rtx-4090").summary.scaling
    assert (found.energy_kwh, found.carbon_kg, found.power_coverage) == (None, None, 0.0)
    assert scaled().summary.scaling.carbon_kg is None


def test_a_sum_with_an_unknown_term_is_unknown():
    assert total([1.0, 2.0]) == 3.0
    assert total([1.0, None]) is None


def test_a_fixed_fleet_takes_what_a_scaler_takes_that_changes_nothing():
    scaling = ", carbon: {gco2_per_kwh: 500}"
    fixed, static = scaled(scaling=scaling, scale="none").summary, scaled(scaling=scaling).summary
    assert static.energy is None
    assert fixed.energy.energy_kwh == pytest.approx(static.scaling.energy_kwh, rel=1e-3)
    assert fixed.energy.carbon_kg == pytest.approx(0.5 * fixed.energy.energy_kwh)
    assert fixed.energy.power_coverage == 1.0
    assert RunSummary.read(fixed.document()).energy == fixed.energy


def test_a_fixed_fleet_tells_energy_where_the_file_is_about_it():
    assert scaled(scale="none").summary.energy is None
    assert scaled(power=", power: {idle_w: 90}", scale="none").summary.energy.energy_kwh > 0.0
