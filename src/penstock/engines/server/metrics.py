"""vLLM's Prometheus metrics, for an engine that Penstock drives.

Names and labels are those of vLLM's V1 engine (docs.vllm.ai, "Production Metrics"). Durations are
seconds of a client's clock: engine time divided by the emulator's speed.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from penstock.policy.scale.values import E2E_BOUNDS_S, TPOT_BOUNDS_S, TTFT_BOUNDS_S

LABELS = ("model_name", "engine")


class EngineMetrics:
    """The metrics of one engine, in a registry of its own."""

    def __init__(self, model: str, engine: str = "0", speed: float = 1.0) -> None:
        self.registry = CollectorRegistry()
        self._speed = speed
        self._labels = (model, engine)
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens computed.")
        self._generation_tokens = self._counter("generation_tokens", "Output tokens computed.")
        self._preemptions = self._counter("num_preemptions", "Sequences that lost their KV.")
        self._success = Counter(
            "vllm:request_success", "Requests that ended, by reason.",
            (*LABELS, "finished_reason"), registry=self.registry)
        self._ttft = self._histogram("time_to_first_token", "Arrival to first token.",
                                     TTFT_BOUNDS_S)
        self._itl = self._histogram("inter_token_latency", "Gap between two output tokens.",
                                    TPOT_BOUNDS_S)
        self._e2e = self._histogram("e2e_request_latency", "Arrival to last token.", E2E_BOUNDS_S)
        self._queue = self._histogram("request_queue_time", "Arrival to first step.", E2E_BOUNDS_S)
        for reason in ("stop", "length", "abort"):
            self._success.labels(*self._labels, reason)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, LABELS, registry=self.registry).labels(*self._labels)

    def _histogram(self, name: str, text: str, bounds_s: tuple[float, ...]) -> Histogram:
        return Histogram(f"vllm:{name}_seconds", text, LABELS, registry=self.registry,
                         buckets=bounds_s).labels(*self._labels)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge ``name`` whose value is computed when it is read."""
        Gauge(name, text, LABELS, registry=self.registry).labels(
            *self._labels).set_function(value)

    def preempted(self, num: int) -> None:
        """Count preempted sequences."""
        self._preemptions.inc(num)

    def first_token(self, prompt_tokens: int, ttft_s: float, queue_s: float) -> None:
        """Record a prompt's first token; durations are in engine time."""
        self._prompt_tokens.inc(prompt_tokens)
        self._generation_tokens.inc()
        self._ttft.observe(ttft_s / self._speed)
        self._queue.observe(queue_s / self._speed)

    def next_token(self, gap_s: float) -> None:
        """Record a further token, ``gap_s`` after the one before."""
        self._generation_tokens.inc()
        self._itl.observe(gap_s / self._speed)

    def ended(self, reason: str, e2e_s: float | None = None) -> None:
        """Record the end of a request, with ``e2e_s`` if it was complete."""
        self._success.labels(*self._labels, reason).inc()
        if e2e_s is not None:
            self._e2e.observe(e2e_s / self._speed)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
