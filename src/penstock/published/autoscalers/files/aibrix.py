"""AIBrix's PodAutoscaler with the strategies APA and HPA.

Sources: vllm-project/aibrix pkg/controller/podautoscaler/types/annotations.go, context/context.go
and api/autoscaling/v1alpha1.
"""

from typing import Any

from penstock.published.autoscalers.files.fields import Fields, duration_s
from penstock.published.autoscalers.files.metrics import metric_named, unknown_metric
from penstock.published.autoscalers.files.values import FileScaler

_PREFIX = "autoscaling.aibrix.ai/"
_ENGINE = "vllm:"
"""Prefix that AIBrix leaves out of the metrics of its default engine."""

_LEAST_TARGET = 1e-6
_NUMBERS = (("max-scale-up-rate", "max_up_rate", 1.0),
            ("max-scale-down-rate", "max_down_rate", 1.0),
            ("scale-up-tolerance", "up_tolerance", 0.0),
            ("scale-down-tolerance", "down_tolerance", 0.0))
_TIMES = (("scale-up-cooldown-window", "up_cooldown_s"),
          ("scale-down-cooldown-window", "down_cooldown_s"))


def read_aibrix(document: Fields) -> FileScaler:
    """Return the policy of a PodAutoscaler. Raises InputError."""
    document.word("apiVersion", ("autoscaling.aibrix.ai/v1alpha1",))
    document.unused("kind", "status")
    metadata, spec = document.section("metadata"), document.needed("spec")
    document.end()
    spec.unused("scaleTargetRef", "subTargetSelector")
    strategy = _strategy(spec)
    least, most = spec.whole("minReplicas", 1), spec.whole("maxReplicas", low=1)
    if least > most:
        raise spec.error("minReplicas", f"{least} is more than maxReplicas, {most}")
    spec.refuse("schedules", "is not supported; the scale policy schedule has a timetable")
    metric, target = _metric(spec)
    window = spec.number("observeWindowSeconds", 180.0, low=1.0)
    spec.unused("panicWindowSeconds")  # of the strategy KPA alone
    spec.end()
    annotations = None if metadata is None else metadata.section("annotations")
    if strategy == "HPA":
        if annotations is not None:
            _end(annotations)
        return FileScaler("hpa", {"metrics": [{"metric": metric, "target": target, "of": "pods",
                                               "type": "AverageValue"}]}, least, most)
    settings = {"metric": metric, "target": target, "observe_window_s": window}
    if annotations is not None:
        settings |= _limits(annotations)
        _end(annotations)
    return FileScaler("aibrix-apa", settings, least, most)


def _strategy(spec: Fields) -> str:
    found = spec.word("scalingStrategy", ("APA", "HPA", "KPA"))
    if found == "KPA":
        raise spec.error("scalingStrategy", "'KPA' is not supported: AIBrix's KPA divides the mean "
                                            "over pods by the target, without the number of pods")
    return found


def _metric(spec: Fields) -> tuple[str, float]:
    rows = spec.rows("metricsSources")
    if len(rows) != 1:
        raise spec.error("metricsSources" if rows else None,
                         f"expected one row of metricsSources, found {len(rows)}")
    [row] = rows
    row.word("metricSourceType", ("pod",))
    row.unused("protocolType", "endpoint", "path", "port")
    name = row.text("targetMetric")
    metric = metric_named(name) or metric_named(_ENGINE + name)
    if metric is None:
        raise row.error("targetMetric", unknown_metric(name))
    target = row.number("targetValue", low=_LEAST_TARGET)
    row.end()
    return metric, target


def _limits(annotations: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, setting, low in _NUMBERS:
        if annotations.has(_PREFIX + key):
            found[setting] = annotations.number(_PREFIX + key, low=low,
                                                high=1.0 if "tolerance" in key else 1e9)
    for key, setting in _TIMES:
        if annotations.has(_PREFIX + key):
            found[setting] = annotations.number(_PREFIX + key, read=duration_s)
    return found


def _end(annotations: Fields) -> None:
    """Refuse other annotations of AIBrix; those of others change no decision."""
    if annotations.flag(f"{_PREFIX}scale-to-zero", default=False):
        raise annotations.error(f"{_PREFIX}scale-to-zero", "is not supported; expected false")
    annotations.end(among="aibrix.ai/")
