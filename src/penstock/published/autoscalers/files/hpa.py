"""Kubernetes' HorizontalPodAutoscaler, autoscaling/v2.

Source: the API reference of autoscaling/v2 at kubernetes.io.
"""

from typing import Any

from penstock.published.autoscalers.files.behaviour import behaviour_settings
from penstock.published.autoscalers.files.fields import Fields, quantity
from penstock.published.autoscalers.files.metrics import metric_named, unknown_metric
from penstock.published.autoscalers.files.values import FileScaler

_LEAST_TARGET = 1e-6


def read_hpa(document: Fields) -> FileScaler:
    """Return the policy of an HPA's object. Raises InputError."""
    document.word("apiVersion", ("autoscaling/v2",))
    document.unused("kind", "metadata", "status")
    spec = document.needed("spec")
    document.end()
    spec.unused("scaleTargetRef")
    least, most = spec.whole("minReplicas", 1), spec.whole("maxReplicas", low=1)
    if least > most:
        raise spec.error("minReplicas", f"{least} is more than maxReplicas, {most}")
    rows = spec.rows("metrics")
    if not rows:
        raise spec.error(None, "expected metrics; the default, CPU use, is no metric of an engine")
    settings = {"metrics": [_metric(row) for row in rows],
                **behaviour_settings(spec.section("behavior"))}
    spec.end()
    return FileScaler("hpa", settings, least, most)


def _metric(row: Fields) -> dict[str, Any]:
    kind = row.word("type", ("Pods", "External"))
    source = row.needed("pods" if kind == "Pods" else "external")
    row.end()
    identifier, target = source.needed("metric"), source.needed("target")
    source.end()
    identifier.unused("selector")  # chooses the pods of this group
    name = identifier.text("name")
    identifier.end()
    metric = metric_named(name)
    if metric is None:
        raise identifier.error("name", unknown_metric(name))
    of_pods = kind == "Pods"
    types = ("AverageValue",) if of_pods else ("AverageValue", "Value")
    against = target.word("type", types)
    field = "averageValue" if against == "AverageValue" else "value"
    wanted = target.number(field, low=_LEAST_TARGET, read=quantity)
    target.end()
    return {"metric": metric, "target": wanted, "of": "pods" if of_pods else "sum",
            "type": against}
