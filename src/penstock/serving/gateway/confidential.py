"""Figures about confidential requests at a gateway: outcomes in padded counts."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.core.disclosure import Disclosure, share_at_least
from penstock.core.snapshot import ReplicaSnapshot
from penstock.engines.client.state import EngineState


class ConfidentialCounts(Collector):
    """Exact counts, which stay private, and the padded counts that are published."""

    def __init__(self, disclosure: Disclosure) -> None:
        self.disclosure = disclosure
        self._ended: Counter[tuple[str, str]] = Counter()  # by class and outcome
        self._met: Counter[tuple[str, bool]] = Counter()
        self._of_model: Counter[str] = Counter()

    def add(self, service_class: str, outcome: str, model: str | None, *,
            is_met: bool | None) -> None:
        """Count a request that ended. ``model`` is the model of the last engine that was tried, if
        any."""
        self._ended[service_class, outcome] += 1
        if is_met is not None:
            self._met[service_class, is_met] += 1
        if model is not None:
            self._of_model[model] += 1

    def document(self) -> dict[str, Any]:
        """Return the padded counts as plain data."""
        count, names = self.disclosure.count, sorted({name for name, _ in self._ended})
        found: dict[str, Any] = {
            "least_count": self.disclosure.least_count,
            "classes": [{"name": name, "outcomes_at_most": {
                outcome: count(number) for (of, outcome), number in sorted(self._ended.items())
                if of == name}, "attainment_at_least": self._attainment(name)} for name in names]}
        if self.disclosure.allow_model_counts:
            found["models"] = {name: count(number)
                               for name, number in sorted(self._of_model.items())}
        return found

    def _attainment(self, name: str) -> float | None:
        judged = self._met[name, True] + self._met[name, False]
        return share_at_least(self._met[name, True] / judged) if judged else None

    def collect(self) -> Iterator[Metric]:
        """Return the counts for Prometheus. They are gauges, since a padded count jumps."""
        count = self.disclosure.count
        ended = GaugeMetricFamily("penstock:confidential_requests_at_most", "Confidential requests "
                                  "by how they ended, rounded up", labels=("service_class",
                                                                           "outcome"))
        for (name, outcome), number in sorted(self._ended.items()):
            ended.add_metric([name, outcome], count(number))
        yield ended
        if self.disclosure.allow_model_counts:
            models = GaugeMetricFamily("penstock:confidential_requests_of_model_at_most",
                                       "The same by model", labels=("model_name",))
            for name, number in sorted(self._of_model.items()):
                models.add_metric([name], count(number))
            yield models


def padded(seen: ReplicaSnapshot, disclosure: Disclosure) -> ReplicaSnapshot:
    """Return an engine in confidential mode as other tenants may see it: without single requests,
    and with padded counts."""
    count = disclosure.count
    return seen.replace(
        num_waiting=count(seen.num_waiting), num_running=count(seen.num_running),
        queued_prompt_tokens=count(seen.queued_prompt_tokens),
        kv_used_tokens=min(count(seen.kv_used_tokens), seen.kv_total_tokens),
        pending_output_tokens=count(seen.pending_output_tokens), queue=())


def any_confidential(engines: Iterable[EngineState]) -> bool:
    """Whether totals over all engines may include confidential requests."""
    return True in [engine.facts.confidential for engine in engines]
