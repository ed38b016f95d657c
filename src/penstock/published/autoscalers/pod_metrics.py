"""Metrics that an HPA reads, and the replicas that each metric asks for.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go: a metric of pods
counts missing and unready pods; an external metric has one total, compared with a target for each
pod (``AverageValue``) or with the target itself (``Value``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from penstock.policy.scale.values import Gauges, SeenGroup
from penstock.published.autoscalers.signals import gauges_of

METRICS: Mapping[str, Callable[[Gauges], float]] = {
    "num_running": lambda gauges: float(gauges.num_running),
    "num_waiting": lambda gauges: float(gauges.num_waiting),
    "ongoing": lambda gauges: float(gauges.num_running + gauges.num_waiting),
    "kv_used_share": lambda gauges: gauges.kv_used_share}
"""Metrics of a pod by name, from the gauges of its engine."""

_JOINED: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": sum, "mean": lambda values: sum(values) / len(values), "max": max, "min": min}


@dataclass(frozen=True, slots=True)
class PodMetric:
    """One metric and its target.

    ``of`` is ``pods`` for a metric of each pod, else the function that joins the pods' values
    into one external value. ``type`` says whether that value is divided by the pods
    (``AverageValue``) before the comparison with ``target``. Above ``activation``, KEDA leads a
    group from zero.
    """

    metric: str
    target: float
    of: Literal["pods", "sum", "mean", "max", "min"] = "pods"
    type: Literal["AverageValue", "Value"] = "AverageValue"
    activation: float = 0.0

    def value(self, group: SeenGroup) -> float | None:
        """Return the metric of a group, for ``pods`` the mean of its ready pods. None where no
        pod, or for an external value not every pod, has gauges."""
        if self.of == "pods":
            known = [one for one in metric_values(group, self.metric) if one is not None]
            return sum(known) / len(known) if known else None
        gauges = gauges_of(group, "ready", "draining")
        return _JOINED[self.of]([METRICS[self.metric](one) for one in gauges]) if gauges else None

    def desired(self, group: SeenGroup, tolerance_up: float, tolerance_down: float) -> int | None:
        """Return the replicas that the metric asks for, None where the metric is missing."""
        current = group.target
        found = self.value(group)
        if found is None:
            return None
        if self.of == "pods":
            return desired_replicas(metric_values(group, self.metric),
                                    len(group.of("waiting", "starting")), current, self.target,
                                    tolerance_up, tolerance_down)
        return self.of_value(found, current, group.num_ready, tolerance_up, tolerance_down)

    def of_value(self, value: float, current: int, num_ready: int, tolerance_up: float,
                 tolerance_down: float) -> int:
        """Return the replicas that an external ``value`` asks for."""
        pods = current if self.type == "AverageValue" else 1
        ratio = value / self.target / max(1, pods)
        if current and 1.0 - tolerance_down <= ratio <= 1.0 + tolerance_up:
            return current
        return ceil(value / self.target) if self.type == "AverageValue" else ceil(ratio * num_ready)


def metric_values(group: SeenGroup, metric: str) -> list[float | None]:
    """Return a metric of each ready pod, None where its gauges are missing."""
    return [None if one.gauges is None else METRICS[metric](one.gauges)
            for one in group.of("ready")]


def pod_metrics(rows: Sequence[Mapping[str, Any]]) -> tuple[PodMetric, ...]:
    """Return the metrics of the setting ``metrics``."""
    return tuple(PodMetric(**row) for row in rows)


def most_desired(proposals: Sequence[int | None], current: int) -> int:
    """Return the largest proposal. A broken metric, None, forbids to shrink, not to grow."""
    known = [one for one in proposals if one is not None]
    most = max(known, default=current)
    return max(most, current) if len(known) < len(proposals) else most


def desired_replicas(values: Sequence[float | None], num_unready: int, current: int,
                     target: float, tolerance_up: float = 0.1, tolerance_down: float = 0.1) -> int:
    """Return the recommendation for one metric.

    ``values`` are of running pods, None where one is missing; ``num_unready`` pods have not started
    yet. A missing value counts as the target where the group shrinks, missing and unready ones as 0
    where it grows. Where that turns the direction, nothing changes.
    """
    known = [value for value in values if value is not None]
    num_missing = len(values) - len(known)
    if not known:
        return current

    def within(ratio: float) -> bool:
        return 1.0 - tolerance_down <= ratio <= 1.0 + tolerance_up

    ratio = sum(known) / len(known) / target
    if not num_missing and not (num_unready and ratio > 1.0):
        return current if within(ratio) else ceil(ratio * len(known))
    total, count = sum(known), len(known) + num_missing
    if ratio < 1.0:
        total += num_missing * target
    else:
        count += num_unready
    corrected = total / count / target
    if within(corrected) or (ratio < 1.0) != (corrected < 1.0):
        return current
    found = ceil(corrected * count)
    if (corrected < 1.0 and found > current) or (corrected > 1.0 and found < current):
        return current
    return found
