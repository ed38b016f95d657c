"""Knative's Service, whose revision's annotations set the pod autoscaler.

Sources: Knative's documentation of autoscaling; knative/serving
pkg/reconciler/autoscaling/resources/target.go for the target of a pod.
"""

from typing import Any

from penstock.published.autoscalers.files.fields import Fields, duration_s
from penstock.published.autoscalers.files.values import FileScaler

_PREFIX = "autoscaling.knative.dev/"
_DEFAULT_CONCURRENCY = 100.0
_DEFAULT_UTILIZATION = 70.0
_LEAST_TARGET = 0.01
_GRACE_S = 30.0
"""Knative's scale-to-zero-grace-period, which the cluster sets."""


def read_service(document: Fields) -> FileScaler:
    """Return the policy of a Knative Service. Raises InputError."""
    document.word("apiVersion", ("serving.knative.dev/v1",))
    document.unused("kind", "metadata", "status")
    spec = document.needed("spec")
    document.end()
    spec.unused("traffic")
    template = spec.needed("template")
    spec.end()
    metadata, pod = template.section("metadata"), template.section("spec")
    template.end()
    annotations = None if metadata is None else metadata.section("annotations")
    return read_annotations(annotations, 0 if pod is None else pod.whole("containerConcurrency", 0))


def read_pod_autoscaler(document: Fields) -> FileScaler:
    """Return the policy of the PodAutoscaler that Knative writes for a revision."""
    document.unused("apiVersion", "kind", "status")
    metadata, spec = document.needed("metadata"), document.needed("spec")
    document.end()
    spec.unused("scaleTargetRef", "protocolType", "reachability")
    most = spec.whole("containerConcurrency", 0)
    spec.end()
    return read_annotations(metadata.section("annotations"), most)


def read_annotations(annotations: Fields | None, most_concurrent: int) -> FileScaler:
    """Return the policy that a revision's annotations state; those of others are left out."""
    return (_default(most_concurrent) if annotations is None
            else _Annotations(annotations, most_concurrent).scaler())


def _default(most_concurrent: int) -> FileScaler:
    wanted = (most_concurrent or _DEFAULT_CONCURRENCY) * _DEFAULT_UTILIZATION / 100.0
    return FileScaler("kpa", {"target": wanted}, 0, None)


class _Annotations:
    """Annotations of a revision under their short names."""

    def __init__(self, fields: Fields, most_concurrent: int) -> None:
        self._fields = fields
        self._most_concurrent = most_concurrent

    def scaler(self) -> FileScaler:
        """Return the policy. Raises InputError."""
        fields = self._fields
        fields.word(f"{_PREFIX}class", ("kpa.autoscaling.knative.dev",),
                    "kpa.autoscaling.knative.dev")
        fields.word(f"{_PREFIX}metric", ("concurrency",), "concurrency")
        fields.refuse(f"{_PREFIX}initial-scale",
                      "is not supported; replicas[].count of the fleet file states the number")
        fields.unused(f"{_PREFIX}target-burst-capacity")  # who holds a request, not how many pods
        least = fields.whole(f"{_PREFIX}min-scale", 0)
        most = fields.whole(f"{_PREFIX}max-scale", 0) or None
        if most is not None and least > most:
            raise fields.error(f"{_PREFIX}min-scale", f"{least} is more than max-scale, {most}")
        settings = {"target": self._target(), **self._shares(), **self._times()}
        if fields.has(f"{_PREFIX}activation-scale"):
            settings["activation"] = fields.whole(f"{_PREFIX}activation-scale", low=1, high=1000)
        fields.end(among=_PREFIX)
        return FileScaler("kpa", settings, least, most)

    def _target(self) -> float:
        fields, most = self._fields, self._most_concurrent
        wanted = fields.number(f"{_PREFIX}target", most or _DEFAULT_CONCURRENCY, low=_LEAST_TARGET)
        share = fields.number(f"{_PREFIX}target-utilization-percentage", _DEFAULT_UTILIZATION,
                              low=1.0, high=100.0) / 100.0
        return max(_LEAST_TARGET, (min(wanted, most) if most else wanted) * share)

    def _shares(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, setting, low, high in (
                ("panic-window-percentage", "panic_window_share", 1.0, 100.0),
                ("panic-threshold-percentage", "panic_threshold", 110.0, 1000.0)):
            if self._fields.has(f"{_PREFIX}{key}"):
                found[setting] = self._fields.number(f"{_PREFIX}{key}", low=low, high=high) / 100.0
        return found

    def _times(self) -> dict[str, Any]:
        found = {}
        for key, setting, low in (("window", "stable_window_s", 6.0),
                                  ("scale-down-delay", "down_delay_s", 0.0),
                                  ("scale-to-zero-pod-retention-period", "zero_grace_s", 0.0)):
            if self._fields.has(f"{_PREFIX}{key}"):
                found[setting] = self._fields.number(f"{_PREFIX}{key}", low=low, high=3600.0,
                                                     read=duration_s)
        if "zero_grace_s" in found:  # the last pod stays for the longer one of both
            found["zero_grace_s"] = max(_GRACE_S, found["zero_grace_s"])
        return found
