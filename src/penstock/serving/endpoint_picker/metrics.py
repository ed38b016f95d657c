"""Prometheus metrics of an endpoint picker, under the names of llm-d's picker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from penstock.engines.client.state import EngineState

OTHER = "other"
MOST_FLOWS = 1000
"""Most values of ``fairness_id`` with a series of their own: clients choose them."""

_NAMES = ("model_name", "target_model_name", "fairness_id", "priority")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
_PER_TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0)
_DECISION_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
_SIZES = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)
_TOKENS = (1, 8, 32, 128, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 131_072, 1_048_576)


class Flow(NamedTuple):
    """Labels of a request. ``target`` is the engine's name for the model."""

    model: str
    target: str
    fairness_id: str
    priority: int


@dataclass(frozen=True, slots=True)
class FlowMetrics:
    """The metrics of one flow, looked up once."""

    requests: Counter
    duration_s: Histogram
    size_bytes: Histogram
    input_tokens: Histogram
    output_tokens: Histogram
    cached_tokens: Histogram
    running: Gauge
    ttft_s: Histogram
    ntpot_s: Histogram
    streaming_tpot_s: Histogram


class PickerMetrics:
    """The metrics, for the registry of the gateway's metrics."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._registry = CollectorRegistry()
        self._flows: dict[Flow, FlowMetrics] = {}
        self._fairness_ids: set[str] = set()
        self._requests = self._counter("request", "Requests with a valid body", _NAMES)
        self.errors = self._counter("request_error", "Requests that got no endpoint, or whose "
                                    "answer was an error", (*_NAMES, "error_code"))
        self._duration_s = self._histogram("request_duration_seconds", "From the body's end to the "
                                           "answer's", _SECONDS)
        self._size_bytes = self._histogram("request_size_bytes", "Bodies of requests", _SIZES)
        self._input = self._histogram("request_input_tokens", "Prompt tokens", _TOKENS)
        self._output = self._histogram("request_output_tokens", "Output tokens", _TOKENS)
        self._cached = self._histogram("request_cached_tokens", "Prompt tokens that the engine had "
                                       "in its cache", _TOKENS)
        self._running = self._gauge("request_running", "Requests on endpoints", _NAMES)
        self._ttft_s = self._histogram("request_ttft_seconds", "To the first token of a streamed "
                                       "answer", _SECONDS)
        self._ntpot_s = self._histogram("request_ntpot_seconds", "Duration over output tokens",
                                        _PER_TOKEN_S)
        self._tpot_s = self._histogram("request_streaming_tpot_seconds", "Mean time between the "
                                       "tokens of a streamed answer", _PER_TOKEN_S)
        self.decision_s = Histogram("llm_d_epp_scheduler_e2e_duration_seconds", "Choice of the "
                                    "endpoints", buckets=_DECISION_S, registry=self._registry)
        self._kv_share = self._gauge("average_kv_cache_utilization", "Mean over ready endpoints",
                                     ("name",))
        self._queued = self._gauge("average_queue_size", "Mean over ready endpoints", ("name",))
        self._on_engines = self._gauge("average_running_requests", "Mean over ready endpoints",
                                       ("name",))
        self._ready = self._gauge("ready_endpoints", "Endpoints that may get requests", ("name",))
        self._saturation = self._gauge("flow_control_pool_saturation", "1 where requests of "
                                       "negative priority are shed", ("name",))
        self.open_streams = Gauge("penstock:endpoint_picker_streams", "Open streams of gateways",
                                  registry=self._registry)
        self.cancelled = Counter("penstock:endpoint_picker_cancelled", "Streams that the gateway "
                                 "closed before the answer's end", registry=self._registry)

    @property
    def registry(self) -> Collector:
        """Return everything, for another registry."""
        return self._registry

    def flow(self, model: str, target: str, fairness_id: str, priority: int) -> Flow:
        """Return the labels of a request. The values that clients choose are bounded."""
        if fairness_id not in self._fairness_ids:
            if len(self._fairness_ids) >= MOST_FLOWS:
                fairness_id = OTHER
            else:
                self._fairness_ids.add(fairness_id)
        return Flow(model, target, fairness_id, priority)

    def of(self, flow: Flow) -> FlowMetrics:
        """Return the metrics of a flow."""
        found = self._flows.get(flow)
        if found is None:
            labels = (*flow[:3], str(flow.priority))
            found = self._flows[flow] = FlowMetrics(
                self._requests.labels(*labels), self._duration_s.labels(*labels),
                self._size_bytes.labels(*labels), self._input.labels(*labels),
                self._output.labels(*labels), self._cached.labels(*labels),
                self._running.labels(*labels), self._ttft_s.labels(*labels),
                self._ntpot_s.labels(*labels), self._tpot_s.labels(*labels))
        return found

    def error(self, flow: Flow, code: str) -> None:
        """Count a request that ended with an error."""
        self.errors.labels(*flow[:3], str(flow.priority), code).inc()

    def show(self, engines: Sequence[EngineState], saturation: float, now_s: float) -> None:
        """Update the metrics of the pool."""
        ready = [one for one in engines if one.unavailable(now_s) is None]
        seen = [one.snapshot(now_s) for one in ready]
        for gauge, values in (
                (self._kv_share, [one.load.kv_used_share or 0.0 for one in ready]),
                (self._queued, [one.num_waiting for one in seen]),
                (self._on_engines, [one.num_running for one in seen])):
            gauge.labels(self._pool).set(sum(values) / len(values) if values else 0.0)
        self._ready.labels(self._pool).set(len(ready))
        self._saturation.labels(self._pool).set(saturation)

    def _counter(self, name: str, words: str, labels: Sequence[str]) -> Counter:
        return Counter(f"llm_d_epp_{name}", words, labels, registry=self._registry)

    def _gauge(self, name: str, words: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"llm_d_epp_{name}", words, labels, registry=self._registry)

    def _histogram(self, name: str, words: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"llm_d_epp_{name}", words, _NAMES, buckets=buckets,
                         registry=self._registry)
