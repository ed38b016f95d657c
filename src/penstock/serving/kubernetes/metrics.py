"""Prometheus metrics of the controller, and the number that other autoscalers follow."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.serving.kubernetes.objects import Ref

_GROUP = ("namespace", "fleet", "group", "model", "accelerator")
_WVA = ("namespace", "variant_name", "accelerator_type")


class ShownGroup(NamedTuple):
    """A group in the metrics, by its name or number. ``desired`` is None before anything is
    decided."""

    fleet: Ref
    key: str
    model: str
    accelerator: str
    workload: str
    desired: int | None
    current: int


class ShownFleet(NamedTuple):
    """A Fleet in the metrics. ``attainment`` is None where it is not known."""

    fleet: Ref
    groups: Sequence[ShownGroup]
    cost_per_hour: float
    attainment: float | None
    is_missing: bool


class ControllerMetrics:
    """Registry of the controller's metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._reconciles = Counter("penstock_reconcile", "Fleets looked at, by result", ["result"],
                                   registry=self.registry)
        self._seconds = Histogram("penstock_reconcile_seconds", "Time for one Fleet",
                                  registry=self.registry)
        self._decisions = Counter("penstock_decisions", "Changes of the number of replicas",
                                  ["direction"], registry=self.registry)
        for result in ("ok", "error"):
            self._reconciles.labels(result)
        for direction in ("up", "down"):
            self._decisions.labels(direction)

    def show(self, fleets: Callable[[], Sequence[ShownFleet]], leads: Callable[[], bool]) -> None:
        """Show Fleets from now on."""
        self.registry.register(_Fleets(fleets, leads))

    def reconciling(self) -> AbstractContextManager[object]:
        """Measure the time of a block."""
        return self._seconds.time()

    def reconciled(self, result: str) -> None:
        """Count a Fleet that was looked at."""
        self._reconciles.labels(result).inc()

    def scaled(self, *, up: bool) -> None:
        """Count a change of a number of replicas."""
        self._decisions.labels("up" if up else "down").inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _Fleets(Collector):
    """Collector of the Fleets' figures."""

    def __init__(self, fleets: Callable[[], Sequence[ShownFleet]], leads: Callable[[], bool]
                 ) -> None:
        self._fleets = fleets
        self._leads = leads

    def collect(self) -> Iterator[Metric]:
        """Return the metrics of every Fleet."""
        yield GaugeMetricFamily("penstock_leader", "1 while this controller leads",
                                value=float(self._leads()))
        fleets = self._fleets()
        yield from _fleet_metrics(fleets)
        yield from _group_metrics([group for fleet in fleets for group in fleet.groups])


def _fleet_metrics(fleets: Sequence[ShownFleet]) -> Iterator[Metric]:
    labels = ("namespace", "fleet")
    cost = GaugeMetricFamily("penstock_fleet_cost_per_hour", "Price per hour of the replicas that "
                             "hold accelerators", labels=labels)
    attainment = GaugeMetricFamily("penstock_fleet_attainment", "Share of the last minutes' "
                                   "requests that met their objectives, absent where unknown",
                                   labels=labels)
    missing = GaugeMetricFamily("penstock_metrics_missing", "1 while metrics are missing, and the "
                                "number of replicas stays", labels=labels)
    for one in fleets:
        named = [one.fleet.namespace, one.fleet.name]
        cost.add_metric(named, one.cost_per_hour)
        missing.add_metric(named, float(one.is_missing))
        if one.attainment is not None:
            attainment.add_metric(named, one.attainment)
    yield from (cost, attainment, missing)


def _group_metrics(groups: Sequence[ShownGroup]) -> Iterator[Metric]:
    """Yield the numbers of replicas, by Penstock's names and by those that users of llm-d's
    Workload Variant Autoscaler have in their HPAs. Before a decision there is no desired number:
    an HPA then keeps what there is."""
    for prefix, labels in (("penstock", _GROUP), ("wva", _WVA)):
        desired = GaugeMetricFamily(f"{prefix}_desired_replicas", "Replicas that the policy wants",
                                    labels=labels)
        current = GaugeMetricFamily(f"{prefix}_current_replicas", "Replicas of the workload",
                                    labels=labels)
        ratio = GaugeMetricFamily(f"{prefix}_desired_ratio", "Wanted over present replicas; of no "
                                  "replicas, the wanted number", labels=labels)
        for one in groups:
            named = [one.fleet.namespace, one.fleet.name, one.key, one.model,
                     one.accelerator] if prefix == "penstock" else [
                         one.fleet.namespace, one.workload, one.accelerator]
            current.add_metric(named, one.current)
            if one.desired is not None:
                desired.add_metric(named, one.desired)
                ratio.add_metric(named, one.desired / max(one.current, 1))
        yield from (desired, current, ratio)
