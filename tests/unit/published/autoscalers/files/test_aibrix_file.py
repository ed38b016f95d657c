"""AIBrix's PodAutoscalers, minimal, full and wrong."""

import pytest

from support.autoscaler_files import AIBRIX

MINIMAL = """\
apiVersion: autoscaling.aibrix.ai/v1alpha1
kind: PodAutoscaler
spec:
  scaleTargetRef: {kind: Deployment, name: chat}
  scalingStrategy: APA
  maxReplicas: 8
  metricsSources:
  - {metricSourceType: pod, targetMetric: "vllm:num_requests_waiting", targetValue: "4"}
"""


def test_minimal(written):
    assert written.read(MINIMAL) == {
        "name": "aibrix-apa", "metric": "num_waiting", "target": 4.0, "observe_window_s": 180.0,
        "min_replicas": 1, "max_replicas": 8}


def test_full(written):
    assert written.read(AIBRIX) == {
        "name": "aibrix-apa", "metric": "kv_used_share", "target": 0.5, "observe_window_s": 60.0,
        "max_up_rate": 3.0, "max_down_rate": 1.5, "up_tolerance": 0.2, "down_tolerance": 0.3,
        "up_cooldown_s": 30.0, "down_cooldown_s": 600.0, "min_replicas": 1, "max_replicas": 8}


def test_the_strategy_hpa_is_kubernetes_hpa(written):
    assert written.read(MINIMAL.replace("APA", "HPA")) == {
        "name": "hpa", "min_replicas": 1, "max_replicas": 8,
        "metrics": [{"metric": "num_waiting", "target": 4.0, "of": "pods",
                     "type": "AverageValue"}]}


@pytest.mark.parametrize(("old", "new", "error"), [
    ("scalingStrategy: APA", "scalingStrategy: KPA",
     "scaler.yaml:16: spec.scalingStrategy: 'KPA' is not supported: AIBrix's KPA divides the mean "
     "over pods by the target, without the number of pods"),
    ("metricSourceType: pod", "metricSourceType: resource",
     "scaler.yaml:21: spec.metricsSources[0].metricSourceType: 'resource' is not supported; "
     "expected one of: pod"),
    ("observeWindowSeconds: 60", "schedules: [{name: day}]",
     "scaler.yaml:19: spec.schedules: is not supported; the scale policy schedule has a "
     "timetable"),
    ('scale-to-zero: "false"', 'scale-to-zero: "true"',
     "scaler.yaml:12: metadata.annotations.'autoscaling.aibrix.ai/scale-to-zero': is not supported"
     "; expected false"),
    ('scale-up-tolerance: "0.2"', 'scale-up-tolerance: "20"',
     "scaler.yaml:8: metadata.annotations.'autoscaling.aibrix.ai/scale-up-tolerance': expected a "
     "number from 0 to 1, found '20'"),
    ("10m", "ten minutes",
     "scaler.yaml:11: metadata.annotations.'autoscaling.aibrix.ai/scale-down-cooldown-window': "
     "expected a number from 0 to 1e+09, found 'ten minutes'")])
def test_errors_name_the_line_and_the_field(written, old, new, error):
    assert old in AIBRIX
    assert written.error(AIBRIX.replace(old, new)) == error


def test_an_unknown_annotation_of_aibrix_is_an_error(written):
    found = written.error(AIBRIX.replace("/scale-up-tolerance", "/up-fluctuation-tolerance"))
    assert "autoscaling.aibrix.ai/up-fluctuation-tolerance': is not supported" in found


def test_an_unknown_metric_is_an_error_although_aibrix_reads_it_as_zero(written):
    assert "metric 'kv_usage' is not supported" in written.error(
        AIBRIX.replace("kv_cache_usage_perc", "kv_usage"))


def test_decisions_equal_those_of_the_law_configured_by_hand(written, decided):
    by_hand = {"name": "aibrix-apa", "metric": "num_waiting", "target": 4, "max_replicas": 8}
    found = decided(written.read(MINIMAL))
    assert found == decided(by_hand)
    assert max(found) == 8
