"""Configurations of Dynamo's planner, minimal, full and wrong."""

import pytest

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.registry.make import make_scaler
from support.autoscaler_files import DYNAMO

MINIMAL = "{mode: agg, optimization_target: latency}\n"


def test_minimal_has_the_planners_defaults(written):
    assert written.read(MINIMAL) == {
        "name": "dynamo", "min_replicas": 1, "optimization_target": "latency",
        "throughput_adjustment_interval_s": 180.0, "load_adjustment_interval_s": 5.0,
        "load_scaling_down_sensitivity": 0.8, "max_gpu_budget": 8}


def test_objectives_are_the_planners_where_the_file_has_none(written):
    found = written.read("{mode: agg, optimization_target: sla}")
    assert (found["ttft_s"], found["itl_s"]) == (0.5, 0.05)
    assert (found["enable_throughput_scaling"], found["enable_load_scaling"]) == (True, False)
    assert {key: found[key] for key in found if key.startswith(("load_predictor", "kalman"))} == {
        "load_predictor": "arima", "load_predictor_log1p": False, "kalman_q_level": 1.0,
        "kalman_q_trend": 0.1, "kalman_r": 10.0}


def test_full(written):
    assert written.read(DYNAMO) == {
        "name": "dynamo", "min_replicas": 2, "optimization_target": "sla",
        "throughput_adjustment_interval_s": 120.0, "load_adjustment_interval_s": 10.0,
        "load_scaling_down_sensitivity": 0.7, "enable_throughput_scaling": True,
        "enable_load_scaling": True, "ttft_s": 2.0, "itl_s": 0.04, "load_predictor": "kalman",
        "load_predictor_log1p": True, "kalman_q_level": 2.0, "kalman_q_trend": 0.2,
        "kalman_r": 5.0, "max_gpu_budget": 16}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("mode: agg", "mode: disagg",
     "scaler.yaml:3: mode: mode 'disagg' is not supported; expected mode: agg"),
    ("mode: agg", "", "scaler.yaml:1: mode 'disagg' is not supported; expected mode: agg"),
    ("load_predictor: kalman", "load_predictor: prophet",
     "scaler.yaml:12: load_predictor: 'prophet' is not supported; expected one of: arima, "
     "constant, kalman"),
    ("kalman_min_points: 5", "kalman_min_points: 9",
     "scaler.yaml:17: kalman_min_points: is not supported; expected 5, the default"),
    ("load_adjustment_interval: 10", "load_adjustment_interval: 120",
     "scaler.yaml:10: load_adjustment_interval: expected less than "
     "throughput_adjustment_interval, 120"),
    ("ttft: 2000", "ttft_ms: 2000",
     "scaler.yaml:5: ttft_ms: is not supported")])
def test_errors_name_the_line_and_the_field(written, old, new, error):
    assert old in DYNAMO
    assert written.error(DYNAMO.replace(old, new, 1)).startswith(error)


def test_one_loop_at_least_runs(written):
    text = DYNAMO.replace("scaling: true", "scaling: false")
    assert written.error(text) == (
        "scaler.yaml:1: expected enable_throughput_scaling or enable_load_scaling")


@pytest.mark.parametrize("text", [MINIMAL, DYNAMO])
def test_the_planner_takes_the_settings(written, text):
    found = written.read(text)
    name = found.pop("name")
    assert make_scaler(name, found, ScalerContext(
        (GroupFacts("m", 1, 9, 2, 1.0, 60.0, 1000),), {}, (), (lambda _: 0.01,)))
