"""Knative's Services and PodAutoscalers, minimal, full and wrong."""

import pytest

from support.autoscaler_files import KNATIVE

MINIMAL = """\
apiVersion: serving.knative.dev/v1
kind: Service
spec: {template: {spec: {containers: []}}}
"""
POD_AUTOSCALER = """\
apiVersion: autoscaling.internal.knative.dev/v1alpha1
kind: PodAutoscaler
metadata:
  annotations: {autoscaling.knative.dev/max-scale: "3"}
spec: {containerConcurrency: 50, scaleTargetRef: {name: chat}, reachability: Reachable}
"""


def test_minimal_has_knatives_defaults(written):
    assert written.read(MINIMAL) == {"name": "kpa", "target": 70.0, "min_replicas": 0}


def test_the_limit_of_a_container_is_the_default_target(written):
    limited = MINIMAL.replace("containers: []", "containerConcurrency: 20")
    assert written.read(limited)["target"] == 14.0


def test_full(written):
    assert written.read(KNATIVE) == {
        "name": "kpa", "target": pytest.approx(25.6), "min_replicas": 1, "max_replicas": 7,
        "stable_window_s": 40.0, "panic_window_share": 0.2, "panic_threshold": 1.5,
        "down_delay_s": 120.0, "zero_grace_s": 65.0, "activation": 2}


def test_the_pod_autoscaler_of_a_revision(written):
    assert written.read(POD_AUTOSCALER) == {
        "name": "kpa", "target": 35.0, "min_replicas": 0, "max_replicas": 3}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("/class: kpa.", "/class: hpa.",
     "scaler.yaml:9: spec.template.metadata.annotations.'autoscaling.knative.dev/class': "
     "'hpa.autoscaling.knative.dev' is not supported; expected one of: "
     "kpa.autoscaling.knative.dev"),
    ("metric: concurrency", "metric: rps",
     "scaler.yaml:10: spec.template.metadata.annotations.'autoscaling.knative.dev/metric': 'rps' "
     "is not supported; expected one of: concurrency"),
    ('min-scale: "1"', 'min-scale: "8"',
     "scaler.yaml:13: spec.template.metadata.annotations.'autoscaling.knative.dev/min-scale': 8 is "
     "more than max-scale, 7"),
    ('activation-scale: "2"', 'initial-scale: "2"',
     "scaler.yaml:20: spec.template.metadata.annotations.'autoscaling.knative.dev/initial-scale': "
     "is not supported; replicas[].count of the fleet file states the number"),
    ("window: 40s", "window: 40",
     "scaler.yaml:15: spec.template.metadata.annotations.'autoscaling.knative.dev/window': "
     "expected a number from 6 to 3600, found 40"),
    ("serving.knative.dev/v1", "v1",
     "scaler.yaml:1: apiVersion: 'v1' is not supported; expected one of: "
     "serving.knative.dev/v1")])
def test_errors_name_the_line_and_the_field(written, old, new, error):
    assert old in KNATIVE
    assert written.error(KNATIVE.replace(old, new, 1)) == error


def test_an_unknown_annotation_of_knative_is_named_with_the_nearest(written):
    found = written.error(KNATIVE.replace("/max-scale:", "/max-scales:"))
    assert "'autoscaling.knative.dev/max-scales': is not supported; did you mean" in found


def test_decisions_equal_those_of_the_law_configured_by_hand(written, decided):
    by_hand = {"name": "kpa", "target": 25.6, "max_replicas": 7, "stable_window_s": 40,
               "panic_window_share": 0.2, "panic_threshold": 1.5, "down_delay_s": 120,
               "zero_grace_s": 65, "activation": 2}
    found = decided(written.read(KNATIVE))
    assert found == decided(by_hand)
    assert len(set(found)) > 3
