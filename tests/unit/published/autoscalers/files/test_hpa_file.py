"""HorizontalPodAutoscalers of autoscaling/v2, minimal, full and wrong."""

import pytest

from penstock.fleet.load import parse_fleet
from penstock.published.autoscalers.files.read import scaler_of_file

MINIMAL = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  maxReplicas: 6
  metrics:
  - type: Pods
    pods:
      metric: {name: vllm:num_requests_waiting}
      target: {type: AverageValue, averageValue: 5}
"""
FULL = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat, namespace: serving, labels: {team: llm}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 2
  maxReplicas: 5
  metrics:
  - type: Pods
    pods:
      metric: {name: vllm_num_requests_running}
      target: {type: AverageValue, averageValue: "24"}
  - type: Pods
    pods:
      metric: {name: vllm:kv_cache_usage_perc}
      target: {type: AverageValue, averageValue: 750m}
  - type: External
    external:
      metric:
        name: sglang:num_queue_reqs
        selector: {matchLabels: {model_name: chat}}
      target: {type: AverageValue, averageValue: "4"}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 60
      selectPolicy: Min
      tolerance: 50m
      policies:
      - {type: Pods, value: 2, periodSeconds: 90}
      - {type: Percent, value: 50, periodSeconds: 30}
    scaleDown:
      stabilizationWindowSeconds: 600
      policies:
      - {type: Percent, value: 10, periodSeconds: 60}
"""


def test_minimal(written):
    assert written.read(MINIMAL) == {
        "name": "hpa", "min_replicas": 1, "max_replicas": 6,
        "metrics": [{"metric": "num_waiting", "target": 5.0, "of": "pods",
                     "type": "AverageValue"}]}


def test_full(written):
    assert written.read(FULL) == {
        "name": "hpa", "min_replicas": 2, "max_replicas": 5,
        "metrics": [
            {"metric": "num_running", "target": 24.0, "of": "pods", "type": "AverageValue"},
            {"metric": "kv_used_share", "target": 0.75, "of": "pods", "type": "AverageValue"},
            {"metric": "num_waiting", "target": 4.0, "of": "sum", "type": "AverageValue"}],
        "up_window_s": 60, "up_select": "Min", "up_tolerance": pytest.approx(0.05),
        "up_policies": [{"kind": "Pods", "value": 2, "period_s": 90},
                        {"kind": "Percent", "value": 50, "period_s": 30}],
        "down_window_s": 600, "down_policies": [{"kind": "Percent", "value": 10, "period_s": 60}]}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("autoscaling/v2", "autoscaling/v1",
     "scaler.yaml:1: apiVersion: 'autoscaling/v1' is not supported; expected one of: "
     "autoscaling/v2"),
    ("kind: HorizontalPodAutoscaler", "kind: HorizontalPodAutoscaling",
     "scaler.yaml:2: kind: 'HorizontalPodAutoscaling' is no autoscaler that Penstock knows; did "
     "you mean 'HorizontalPodAutoscaler'?"),
    ("num_requests_waiting", "num_request_waiting",
     "scaler.yaml:10: spec.metrics[0].pods.metric.name: metric 'vllm:num_request_waiting' is not "
     "supported; did you mean 'vllm:num_requests_waiting'? (supported: sglang:num_queue_reqs, "
     "sglang:num_running_reqs, sglang:token_usage, trtllm_kv_cache_utilization, "
     "trtllm_num_requests_running, trtllm_num_requests_waiting, vllm:gpu_cache_usage_perc, "
     "vllm:kv_cache_usage_perc, vllm:num_requests_running, vllm:num_requests_waiting)"),
    ("maxReplicas: 6", "maxReplica: 6", "scaler.yaml:4: spec: expected maxReplicas"),
    ("maxReplicas: 6", "maxReplicas: 0",
     "scaler.yaml:6: spec.maxReplicas: expected a number from 1 to 1e+09, found 0"),
    ("maxReplicas: 6", "maxReplicas: 6\n  minReplicas: 7",
     "scaler.yaml:7: spec.minReplicas: 7 is more than maxReplicas, 6"),
    ("maxReplicas: 6", "maxReplicas: 6\n  behaviour: {}",
     "scaler.yaml:7: spec.behaviour: is not supported; did you mean 'behavior'? "
     "(supported: behavior, maxReplicas, metrics, minReplicas, scaleTargetRef)"),
    ("maxReplicas: 6", "maxReplicas: 6\n  behavior: {scaleUp: {selectPolicy: Most}}",
     "scaler.yaml:7: spec.behavior.scaleUp.selectPolicy: 'Most' is not supported; expected one of: "
     "Disabled, Max, Min"),
    ("type: Pods", "type: Resource",
     "scaler.yaml:8: spec.metrics[0].type: 'Resource' is not supported; expected one of: External, "
     "Pods"),
    ("averageValue: 5", "averageValue: five",
     "scaler.yaml:11: spec.metrics[0].pods.target.averageValue: expected a number from 1e-06 to "
     "1e+09, found 'five'"),
    ("averageValue: 5", "averageValue: 5, averageUtilization: 60",
     "scaler.yaml:11: spec.metrics[0].pods.target.averageUtilization: is not supported; did you "
     "mean 'averageValue'? (supported: averageValue, type)"),
])
def test_errors_name_the_line_the_field_and_the_nearest(written, old, new, error):
    assert old in MINIMAL
    assert written.error(MINIMAL.replace(old, new)) == error


def test_no_metrics(written):
    text = MINIMAL[:MINIMAL.index("  metrics")]
    assert written.error(text) == ("scaler.yaml:4: spec: expected metrics; the default, CPU use, "
                                   "is no metric of an engine")


@pytest.mark.parametrize(("text", "error"), [
    ("", "scaler.yaml: empty; expected the file of an autoscaler: "),
    ("- 1", "scaler.yaml: expected a mapping, the file of an autoscaler: "),
    ("a: 1", "scaler.yaml:1: expected the file of an autoscaler: ")])
def test_a_file_of_nothing_known(written, text, error):
    assert written.error(text).startswith(error)


FLEET = """\
accelerators: [{name: a100-80gb, count: 8}]
models: [{name: llama-3-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2}}]
traffic: [{lengths: {prompt: {fixed: 100}, output: {fixed: 10}}, rate_per_s: 1, num_requests: 9}]
replicas: [{count: 2, max_replicas: 4}]
scaling: {start_s: 20, settings: {hpa: {target: 99}}}
policies: {scale: %s}
"""


def test_a_fleet_has_the_policy_of_the_file_and_not_its_own_settings(tmp_path):
    (tmp_path / "hpa.yaml").write_text(FULL)
    fleet = parse_fleet(FLEET % "{file: ./hpa.yaml}", base=tmp_path)
    policy = fleet.policies.scale
    assert {"name": policy.name, **policy.options} == scaler_of_file(str(tmp_path / "hpa.yaml"))


def test_decisions_equal_those_of_the_law_configured_by_hand(written, decided):
    by_file = decided(written.read(MINIMAL.replace("averageValue: 5", "averageValue: 5000m")))
    by_hand = {"name": "hpa", "metric": "num_waiting", "target": 5}
    assert by_file == decided({**by_hand, "max_replicas": 6})
    assert max(by_file) == 6  # of the file, where the fleet allows 9
    assert max(decided(by_hand)) == 9


def test_the_largest_proposal_of_several_metrics_counts(written, decided):
    both = FULL.replace("minReplicas: 2", "minReplicas: 1")
    assert max(decided(written.read(both))) == 5
    assert decided(written.read(both)) != decided(written.read(MINIMAL))


def test_bounds_are_within_those_of_the_fleet(written, decided):
    read = written.read(FULL.replace("minReplicas: 2", "minReplicas: 4"))
    assert min(decided(read, floor=1, ceiling=9)) == 4
    assert set(decided(read, floor=1, ceiling=3)) == {3}
    assert set(decided(read, floor=6, ceiling=9)) == {6}
