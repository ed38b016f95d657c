"""KEDA's ScaledObject with triggers of Prometheus.

Source: KEDA 2.19's documentation of ScaledObject and of the Prometheus scaler.
"""

from typing import Any

from penstock.published.autoscalers.files.behaviour import behaviour_settings
from penstock.published.autoscalers.files.fields import Fields
from penstock.published.autoscalers.files.metrics import read_query
from penstock.published.autoscalers.files.values import FileScaler

_ANNOTATIONS = "autoscaling.keda.sh/"
_ADDRESS = ("serverAddress", "namespace", "customHeaders", "queryParameters", "unsafeSsl",
            "timeout", "authModes", "metricName", "cortexOrgID")
_LEAST_TARGET = 1e-6


def read_keda(document: Fields) -> FileScaler:
    """Return the policy of a ScaledObject. Raises InputError."""
    document.word("apiVersion", ("keda.sh/v1alpha1",))
    document.unused("kind", "status")
    _metadata(document.section("metadata"))
    spec = document.needed("spec")
    document.end()
    spec.unused("scaleTargetRef")
    spec.refuse("idleReplicaCount", "is not supported; minReplicaCount: 0 goes to zero")
    if spec.number("initialCooldownPeriod", 0.0):
        raise spec.error("initialCooldownPeriod", "is not supported; expected 0")
    least, most = spec.whole("minReplicaCount", 0), spec.whole("maxReplicaCount", 100, low=1)
    if least > most:
        raise spec.error("minReplicaCount", f"{least} is more than maxReplicaCount, {most}")
    rows = spec.rows("triggers")
    if not rows:
        raise spec.error(None, "expected triggers")
    settings = {"metrics": [_trigger(row) for row in rows],
                "polling_s": spec.number("pollingInterval", 30.0, low=1.0),
                "cooldown_s": spec.number("cooldownPeriod", 300.0),
                **_fallback(spec.section("fallback")), **_advanced(spec.section("advanced"))}
    spec.end()
    return FileScaler("keda", settings, least, most)


def _metadata(metadata: Fields | None) -> None:
    """Refuse KEDA's annotations, which pause scaling."""
    annotations = None if metadata is None else metadata.section("annotations")
    if annotations is not None:
        annotations.end(among=_ANNOTATIONS)


def _trigger(row: Fields) -> dict[str, Any]:
    row.word("type", ("prometheus",))
    row.unused("name", "authenticationRef")
    if row.flag("useCachedMetrics", default=False):
        raise row.error("useCachedMetrics", "is not supported; expected false")
    against = row.word("metricType", ("AverageValue", "Value"), "AverageValue")
    data = row.needed("metadata")
    row.end()
    data.unused(*_ADDRESS)
    if not data.flag("ignoreNullValues", default=True):
        raise data.error("ignoreNullValues", "is not supported; expected true")
    query = read_query(data.text("query"))
    if isinstance(query, str):
        raise data.error("query", query)
    found = {"metric": query.metric, "of": query.of, "type": against,
             "target": data.number("threshold", low=_LEAST_TARGET),
             "activation": data.number("activationThreshold", 0.0)}
    data.end()
    return found


def _fallback(section: Fields | None) -> dict[str, Any]:
    if section is None:
        return {}
    found = {"fallback_failures": section.whole("failureThreshold"),
             "fallback_replicas": section.whole("replicas"),
             "fallback": section.word("behavior", (
                 "static", "currentReplicas", "currentReplicasIfHigher",
                 "currentReplicasIfLower"), "static")}
    section.end()
    return found


def _advanced(section: Fields | None) -> dict[str, Any]:
    if section is None:
        return {}
    section.unused("restoreToOriginalReplicaCount")
    section.refuse("scalingModifiers", "is not supported; expected triggers alone")
    owned = section.section("horizontalPodAutoscalerConfig")
    section.end()
    if owned is None:
        return {}
    owned.unused("name")
    found = behaviour_settings(owned.section("behavior"))
    owned.end()
    return found
