"""The metrics of several worker processes as those of one server."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

SUMMED_GAUGES = frozenset({
    "llm_d_epp_request_running", "penstock:endpoint_picker_streams",
    "penstock:num_requests_in_flight", "penstock:num_requests_waiting",
    "penstock:tenant_requests_in_flight", "penstock:confidential_requests_at_most",
    "penstock_overload_shed"})
"""Gauges that count a worker's own requests. Of another gauge the highest value counts, since every
worker has its own view of the same pool."""

_Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class _Sums(Collector):
    """Families of metrics with the sums of their samples."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[Metric, _Samples]] = {}

    def add(self, text: str, *, with_gauges: bool) -> None:
        """Add the metrics of one worker."""
        for family in text_string_to_metric_families(text):
            is_gauge = family.type not in ("counter", "histogram")
            if is_gauge and not with_gauges:
                continue
            _, found = self._families.setdefault(family.name, (family, {}))
            for one in family.samples:
                key = (one.name, tuple(sorted(one.labels.items())))
                if is_gauge and family.name not in SUMMED_GAUGES:
                    found[key] = max(found.get(key, one.value), one.value)
                else:
                    found[key] = found.get(key, 0.0) + one.value

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        for family, samples in self._families.values():
            metric = Metric(family.name, family.documentation, family.type)
            for (name, labels), value in samples.items():
                metric.add_sample(name, dict(labels), value)
            yield metric


def summed(living: Iterable[str], dead: Iterable[str] = ()) -> str:
    """Return the metrics of workers in Prometheus's text format: the sums of counters and
    histograms, also of ``dead`` workers, and the gauges of ``living`` ones."""
    sums = _Sums()
    for text in living:
        sums.add(text, with_gauges=True)
    for text in dead:
        sums.add(text, with_gauges=False)
    registry = CollectorRegistry()
    registry.register(sums)
    return generate_latest(registry).decode()
