"""Ended requests of a gateway, by model and service class, for Prometheus.

Every request is counted in plain numbers, which become metrics when Prometheus asks. The event loop
alone counts, so no count needs a lock.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_BOUND_NAMES = (*map(floatToGoString, _BOUNDS_S), "+Inf")
OUTCOMES = ("finished", "refused", "failed", "broken", "cancelled", "shed")
"""Outcomes of valid requests: the answer was complete; the engine refused; no engine could answer;
the answer broke off after its first byte; the client disconnected; no place was free in time."""


class Latencies:
    """A histogram of latencies in seconds."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * len(_BOUND_NAMES)
        self.total_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count a latency."""
        self.counts[bisect_left(_BOUNDS_S, latency_s)] += 1
        self.total_s += latency_s


class ClassCounts:
    """The counts of one model and class."""

    __slots__ = ("e2e", "num_met", "outcomes", "output_tokens", "prompt_tokens", "ttft")

    def __init__(self) -> None:
        self.outcomes = dict.fromkeys(OUTCOMES, 0)
        self.prompt_tokens = self.output_tokens = self.num_met = 0
        self.ttft, self.e2e = Latencies(), Latencies()

    def add(self, outcome: str, prompt_tokens: int, output_tokens: int, ttft_s: float | None,
            e2e_s: float, *, is_met: bool | None) -> None:
        """Count a request that ended. ``ttft_s`` is None where no token of a stream came, and
        ``is_met`` where no target was judged."""
        self.outcomes[outcome] += 1
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens
        self.num_met += is_met or 0
        if ttft_s is not None:
            self.ttft.add(ttft_s)
        if outcome == "finished":
            self.e2e.add(e2e_s)


class RequestMetrics(Collector):
    """The counts of all models and classes."""

    def __init__(self) -> None:
        self._classes: dict[tuple[str, str], ClassCounts] = {}

    def of(self, model: str, service_class: str) -> ClassCounts:
        """Return the counts of a model and a class."""
        found = self._classes.get((model, service_class))
        if found is None:
            found = self._classes[model, service_class] = ClassCounts()
        return found

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        names = ("model_name", "service_class")
        requests = CounterMetricFamily("penstock:requests", "Requests by how they ended",
                                       labels=(*names, "outcome"))
        prompt = CounterMetricFamily("penstock:prompt_tokens",
                                     "Prompt tokens of answered requests", labels=names)
        output = CounterMetricFamily("penstock:generation_tokens", "Output tokens passed on",
                                     labels=names)
        met = CounterMetricFamily("penstock:requests_in_time", "Requests that met every target of "
                                  "their class", labels=names)
        ttft = HistogramMetricFamily("penstock:time_to_first_token_seconds", "At the gateway",
                                     labels=names)
        e2e = HistogramMetricFamily("penstock:e2e_request_latency_seconds", "At the gateway",
                                    labels=names)
        for labels, one in self._classes.items():
            for outcome, number in one.outcomes.items():
                requests.add_metric((*labels, outcome), number)
            prompt.add_metric(labels, one.prompt_tokens)
            output.add_metric(labels, one.output_tokens)
            met.add_metric(labels, one.num_met)
            for family, found in ((ttft, one.ttft), (e2e, one.e2e)):
                family.add_metric(labels, [*zip(_BOUND_NAMES, accumulate(found.counts),
                                                strict=True)], found.total_s)
        yield from (requests, prompt, output, met, ttft, e2e)
