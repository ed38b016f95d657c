"""Prometheus metrics of a gateway's scaling."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.serving.scaling.loop import STATES, LiveScaling

_GROUP = ("group", "model_name")


class ScalingMetrics(Collector):
    """Collector that reads the scaling loop: replicas by state, wanted ones, decisions, the bill,
    the age of the last decision and whether metrics are missing. ``group`` is the number in the
    fleet file's ``replicas``."""

    def __init__(self, loop: LiveScaling) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of every group."""
        loop = self._loop
        replicas = GaugeMetricFamily("penstock:replicas", "Replicas by state: waiting for "
                                     "accelerators, starting, ready, draining",
                                     labels=(*_GROUP, "state"))
        wanted = GaugeMetricFamily("penstock:replicas_wanted", "Replicas that the scale policy "
                                   "wants, within the bounds", labels=_GROUP)
        decisions = CounterMetricFamily("penstock:scaling_decisions", "Decisions of the scale "
                                        "policy: more replicas, fewer, or as many as before",
                                        labels=(*_GROUP, "direction"))
        for number, facts in enumerate(loop.facts):
            labels = [str(number), facts.model]
            counts = loop.states(number)
            for state in STATES:
                replicas.add_metric([*labels, state], counts[state])
            wanted.add_metric(labels, loop.advised[number])
            for direction, num in loop.directions[number].items():
                decisions.add_metric([*labels, direction], num)
        yield from (replicas, wanted, decisions)
        yield GaugeMetricFamily("penstock:replicas_cost_per_hour", "Price per hour of the replicas "
                                "that hold accelerators", value=loop.cost_per_hour)
        yield GaugeMetricFamily("penstock:scaling_metrics_up", "1 while the scale policy gets "
                                "metrics, 0 while they are missing",
                                value=float(loop.problem is None))
        age = GaugeMetricFamily("penstock:scaling_decision_age_seconds", "Time since the last "
                                "decision, absent before the first")
        decided_s_ago = loop.decided_s_ago
        if decided_s_ago is not None:
            age.add_metric((), decided_s_ago)
        yield age
