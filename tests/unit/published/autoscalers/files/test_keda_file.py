"""ScaledObjects, minimal, full and wrong."""

import pytest

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup, SeenReplica
from penstock.registry.make import make_scaler
from support.autoscaler_files import KEDA

MINIMAL = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat}
spec:
  scaleTargetRef: {name: chat}
  triggers:
  - type: prometheus
    metadata: {query: sum(vllm:num_requests_waiting), threshold: "5"}
"""


def test_minimal_has_kedas_defaults(written):
    assert written.read(MINIMAL) == {
        "name": "keda", "min_replicas": 0, "max_replicas": 100, "polling_s": 30.0,
        "cooldown_s": 300.0, "metrics": [{"metric": "num_waiting", "of": "sum", "target": 5.0,
                                          "type": "AverageValue", "activation": 0.0}]}


def test_full(written):
    assert written.read(KEDA) == {
        "name": "keda", "min_replicas": 1, "max_replicas": 6, "polling_s": 15.0,
        "cooldown_s": 600.0, "fallback_failures": 3, "fallback_replicas": 4,
        "fallback": "currentReplicasIfHigher", "down_window_s": 120,
        "metrics": [{"metric": "num_waiting", "of": "sum", "target": 5.0, "type": "AverageValue",
                     "activation": 2.0},
                    {"metric": "kv_used_share", "of": "max", "target": 0.8, "type": "Value",
                     "activation": 0.0}]}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("type: prometheus", "type: cron",
     "scaler.yaml:7: spec.triggers[0].type: 'cron' is not supported; expected one of: prometheus"),
    ("scaleTargetRef: {name: chat}", "idleReplicaCount: 0",
     "scaler.yaml:5: spec.idleReplicaCount: is not supported; minReplicaCount: 0 goes to zero"),
    ("metadata: {name: chat}", "metadata: {annotations: {autoscaling.keda.sh/paused: 'true'}}",
     "scaler.yaml:3: metadata.annotations.'autoscaling.keda.sh/paused': is not supported"),
    ("sum(vllm:num_requests_waiting)", "'sum(rate(requests_total[1m]))'",
     "scaler.yaml:8: spec.triggers[0].metadata.query: found 'sum(rate(requests_total[1m]))'; "
     "expected one metric within sum, avg, max or min, such as sum(vllm:num_requests_waiting), or "
     "sums of waiting and running with +"),
    ('threshold: "5"', 'thresholds: "5"',
     "scaler.yaml:8: spec.triggers[0].metadata: expected threshold"),
    ("  triggers:", "  minReplicaCount: 5\n  maxReplicaCount: 4\n  triggers:",
     "scaler.yaml:6: spec.minReplicaCount: 5 is more than maxReplicaCount, 4"),
    ("  triggers:", "  advanced: {scalingModifiers: {formula: a}}\n  triggers:",
     "scaler.yaml:6: spec.advanced.scalingModifiers: is not supported; expected triggers alone"),
    ("  triggers:", "  fallback: {failureThreshold: 3}\n  triggers:",
     "scaler.yaml:6: spec.fallback: expected replicas")])
def test_errors_name_the_line_and_the_field(written, old, new, error):
    assert old in MINIMAL
    assert written.error(MINIMAL.replace(old, new)) == error


def test_decisions_equal_those_of_the_law_configured_by_hand(written, decided):
    by_hand = {"name": "keda", "max_replicas": 100, "min_replicas": 0, "metrics": [
        {"metric": "num_waiting", "target": 5, "of": "sum"}]}
    found = decided(written.read(MINIMAL))
    assert found == decided(by_hand)
    assert max(found) == 9


BLIND = Observation(0.0, (SeenGroup(5, (SeenReplica(0, "ready", 0.0, None),)),))


@pytest.mark.parametrize(("fallback", "target"), [
    ({}, 5), ({"fallback_replicas": 7}, 7), ({"fallback_replicas": 3}, 5),
    ({"fallback_replicas": 7, "fallback": "currentReplicas"}, 5),
    ({"fallback_replicas": 4, "fallback": "currentReplicasIfHigher"}, 5),
    ({"fallback_replicas": 7, "fallback": "currentReplicasIfHigher"}, 7),
    ({"fallback_replicas": 7, "fallback": "currentReplicasIfLower"}, 5)])
def test_the_fallback_holds_after_its_failures(fallback, target):
    failures = {"fallback_failures": 2} if fallback else {}
    scaler = make_scaler("keda", {**failures, **fallback}, ScalerContext(
        (GroupFacts("m", 1, 9, 2, 1.0, 60.0, 1000),), {}))
    found = [scaler.decide(BLIND, now_s).targets[0] for now_s in (0.0, 15.0, 30.0)]
    # Fewer wait for the HPA's stabilization window.
    assert found == [5, 5, target]


def test_a_value_ends_the_count_of_failures():
    scaler = make_scaler("keda", {"fallback_failures": 1, "fallback_replicas": 7},
                         ScalerContext((GroupFacts("m", 1, 9, 2, 1.0, 60.0, 1000),), {}))
    seen = Observation(0.0, (SeenGroup(5, tuple(
        SeenReplica(i, "ready", 0.0, Gauges(16, 0, 0.1)) for i in range(5))),), ())
    found = [scaler.decide(one, 15.0 * i).targets[0]
             for i, one in enumerate((BLIND, seen, BLIND, BLIND))]
    assert found == [5, 5, 5, 7]
