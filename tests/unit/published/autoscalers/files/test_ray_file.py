"""Ray Serve's files, minimal, full and wrong."""

import pytest

from support.autoscaler_files import RAY

MINIMAL = "autoscaling_config: {max_replicas: 6}\n"
OF_AN_LLM = """\
applications:
- name: llms
  args:
    llm_configs:
    - model_loading_config: {model_id: chat}
      deployment_config:
        num_replicas: auto
        autoscaling_config: {target_ongoing_requests: 64}
"""


def test_minimal_keeps_rays_defaults(written):
    assert written.read(MINIMAL) == {"name": "ray", "min_replicas": 1, "max_replicas": 6}


def test_without_a_largest_number_one_replica_stays(written):
    assert written.read("deployment_config: {autoscaling_config: {min_replicas: 1}}") == {
        "name": "ray", "min_replicas": 1, "max_replicas": 1}


def test_the_one_deployment_that_scales(written):
    assert written.read(RAY) == {
        "name": "ray", "min_replicas": 1, "max_replicas": 5, "target_ongoing_requests": 24.0,
        "upscale_delay_s": 10.0, "downscale_delay_s": 120.0, "downscale_to_zero_delay_s": 900.0,
        "look_back_period_s": 20.0, "metrics_interval_s": 5.0, "upscaling_factor": 0.8,
        "downscaling_factor": 0.5}


def test_the_model_of_an_llm_application(written):
    assert written.read(OF_AN_LLM) == {"name": "ray", "min_replicas": 1, "max_replicas": 100,
                                       "target_ongoing_requests": 64.0}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("num_replicas: 1", "autoscaling_config: {}",
     "scaler.yaml:1: expected one autoscaling_config, found 2"),
    ("autoscaling_config:", "autoscaling:",
     "scaler.yaml:1: expected one autoscaling_config, found 0"),
    ("min_replicas: 1", "initial_replicas: 2",
     "scaler.yaml:10: applications[0].deployments[1].autoscaling_config.initial_replicas: is not "
     "supported; replicas[].count of the fleet file states the number"),
    ("min_replicas: 1", "min_replicas: 9",
     "scaler.yaml:10: applications[0].deployments[1].autoscaling_config.min_replicas: 9 is more "
     "than max_replicas, 5"),
    ("aggregation_function: mean", "aggregation_function: max",
     "scaler.yaml:20: applications[0].deployments[1].autoscaling_config.aggregation_function: "
     "'max' is not supported; expected one of: mean"),
    ("aggregation_function: mean", "policy: {policy_function: my:policy}",
     "scaler.yaml:20: applications[0].deployments[1].autoscaling_config.policy: is not supported; "
     "expected Ray's default policy"),
    ("upscale_delay_s: 10", "upscale_delay_s: soon",
     "scaler.yaml:13: applications[0].deployments[1].autoscaling_config.upscale_delay_s: expected "
     "a number from 0 to 1e+09, found 'soon'")])
def test_errors_name_the_line_and_the_field(written, old, new, error):
    assert old in RAY
    assert written.error(RAY.replace(old, new, 1)) == error


def test_an_unknown_field_is_named_with_the_nearest(written):
    found = written.error(RAY.replace("target_ongoing_requests", "target_ongoing_request"))
    assert "is not supported; did you mean 'target_ongoing_requests'?" in found


def test_decisions_equal_those_of_the_law_configured_by_hand(written, decided):
    by_hand = {"name": "ray", "max_replicas": 6}
    found = decided(written.read(MINIMAL))
    assert found == decided(by_hand)
    assert max(found) == 6
