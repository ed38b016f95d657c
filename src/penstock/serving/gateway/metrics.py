"""Prometheus metrics of the gateway."""

from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.registry import Collector

from penstock.core.attestation import attestation_violation
from penstock.engines.client.state import EngineState
from penstock.serving.gateway.confidential import ConfidentialCounts, any_confidential
from penstock.serving.gateway.request_metrics import ClassCounts, RequestMetrics


class GatewayMetrics:
    """The gateway's metrics, with their own registry so that two gateways in one process stay
    apart."""

    def __init__(self, confidential: ConfidentialCounts) -> None:
        self._confidential = confidential
        self._registry = CollectorRegistry()
        self._requests = RequestMetrics()
        self._registry.register(self._requests)
        self.retries = Counter("penstock:retries", "Attempts that failed before the first byte",
                               ("url",), registry=self._registry)
        self.disputed = Counter("penstock:usage_disputed", "Answers whose engine counted tokens "
                                "that cannot be true", ("url",), registry=self._registry)
        self.in_flight = Gauge("penstock:num_requests_in_flight", "Requests on an engine",
                               ("url",), registry=self._registry)
        self.waiting = Gauge("penstock:num_requests_waiting", "Requests that wait for a place",
                             registry=self._registry)
        self.attested = Gauge("penstock:engine_attested", "1 where an engine may get confidential "
                              "requests", ("url",), registry=self._registry)
        self.pressure = Gauge("penstock_overload_pressure", "Share of the limit that is used, in "
                              "steps of 5 %; requests are shed from 0.7 on, by class", ("of",),
                              registry=self._registry)
        self.max_bytes = Gauge("penstock_overload_max_bytes", "Limit of memory", ("of",),
                               registry=self._registry)
        self.shed = Gauge("penstock_overload_shed", "Requests shed by the overload guard since the "
                          "start", ("service_class",), registry=self._registry)
        self._registry.register(confidential)
        self.available = Gauge("penstock:engine_available", "1 where an engine may get requests",
                               ("url",), registry=self._registry)

    def of(self, model: str, service_class: str) -> ClassCounts:
        """Return the counts of a model and a class."""
        return self._requests.of(model, service_class)

    def show(self, engines: Sequence[EngineState], num_waiting: int, now_s: float,
             wall_s: float) -> None:
        """Update the metrics of the present engines and drop those of removed engines. One URL may
        serve several models. Counts that may include confidential requests are padded."""
        pad = self._confidential.disclosure.count
        self.in_flight.clear()
        self.available.clear()
        self.attested.clear()
        self.waiting.set(pad(num_waiting) if any_confidential(engines) else num_waiting)
        in_flight: Counts[str] = Counts()
        for engine in engines:
            in_flight[engine.facts.url] += len(engine.in_flight)
        for engine in engines:
            url, number = engine.facts.url, in_flight[engine.facts.url]
            if engine.facts.confidential:
                number = pad(number)
                violation = attestation_violation(engine.confidentiality, wall_s)
                self.attested.labels(url).set(violation is None)
            self.in_flight.labels(url).set(number)
            if engine.unavailable(now_s) is None:
                self.available.labels(url).set(1.0)
            else:
                self.available.labels(url)  # 0, unless another model at this URL may get requests

    def show_overload(self, document: Mapping[str, Any]) -> None:
        """Update the metrics of the overload guard from its part of the status document."""
        for name, share in document["pressures"].items():
            self.pressure.labels(name).set(share)
        self.max_bytes.labels("memory").set(document["max_resident_bytes"])
        self.max_bytes.labels("bodies").set(document["max_body_bytes"])
        for name, number in document["num_shed"].items():
            self.shed.labels(name).set(number)

    def add(self, collector: Collector) -> None:
        """Add metrics of another collector."""
        self._registry.register(collector)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
