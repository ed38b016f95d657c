"""Observation of engines by a Prometheus server."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrometheusOptions:
    """Prometheus server that observes engines: its URL, and the labels of its series. ``arrivals``
    selects a counter of arrivals, None for those that engines show. A series counts for ``stale_s``
    after its last sample."""

    prometheus: str
    namespace: str | None = None
    namespace_label: str = "namespace"
    model_label: str = "model_name"
    replica_label: str = "pod"
    arrivals: str | None = None
    stale_s: float = 60.0
