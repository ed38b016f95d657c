"""Kubernetes' HorizontalPodAutoscaler v2 on metrics of pods.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/horizontal.go and replica_calculator.go,
and the page horizontal-pod-autoscale of kubernetes.io.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal, NamedTuple

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Gauges, Observation, SeenGroup
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted

PERIOD_S = 15.0

METRICS: Mapping[str, Callable[[Gauges], float]] = {
    "num_running": lambda gauges: float(gauges.num_running),
    "num_waiting": lambda gauges: float(gauges.num_waiting),
    "ongoing": lambda gauges: float(gauges.num_running + gauges.num_waiting),
    "kv_used_share": lambda gauges: gauges.kv_used_share}
"""Metrics of a pod by name, from the gauges of its engine."""


class Policy(NamedTuple):
    """Most replicas, or percent of them, that may be added or removed within a period."""

    kind: Literal["Pods", "Percent"]
    value: float
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits of changes in one direction (``behavior`` of the HPA)."""

    window_s: float
    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = 0.1


UP = Rules(0.0, (Policy("Percent", 100.0, 15.0), Policy("Pods", 4.0, 15.0)))
DOWN = Rules(300.0, (Policy("Percent", 100.0, 15.0),))


@dataclass
class Behaviour:
    """Stabilises recommendations and limits the rate of changes of one group."""

    up: Rules = UP
    down: Rules = DOWN
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)  # added, negative: removed

    def limited(self, now_s: float, current: int, desired: int, facts: GroupFacts) -> int:
        """Return the number of replicas to order, where ``desired`` is the newest
        recommendation."""
        if not self._recommended:  # a controller that has just begun counts the present number
            self._recommended = [(now_s, current)]
        keep_s = max(self.up.window_s, self.down.window_s)
        self._recommended = [*((at_s, one) for at_s, one in self._recommended
                               if at_s > now_s - keep_s), (now_s, desired)]
        wanted = self._stable(now_s, current, desired)
        wanted = self._at_most(now_s, current, wanted, facts)
        if wanted != current:
            longest = max(one.period_s for one in (*self.up.policies, *self.down.policies))
            self._changes = [*((at_s, one) for at_s, one in self._changes
                               if at_s > now_s - longest), (now_s, wanted - current)]
        return wanted

    def _stable(self, now_s: float, current: int, desired: int) -> int:
        low = min((one for at_s, one in self._recommended if at_s > now_s - self.up.window_s),
                  default=desired)
        high = max((one for at_s, one in self._recommended if at_s > now_s - self.down.window_s),
                   default=desired)
        return low if current < low else high if current > high else current

    def _at_most(self, now_s: float, current: int, wanted: int, facts: GroupFacts) -> int:
        if wanted > current:
            limit = self._limit(now_s, current, self.up, sign=1)
            return facts.bounded(min(wanted, max(limit, current)))
        if wanted < current:
            limit = self._limit(now_s, current, self.down, sign=-1)
            return facts.bounded(max(wanted, min(limit, current)))
        return facts.bounded(wanted)

    def _limit(self, now_s: float, current: int, rules: Rules, sign: int) -> int:
        """Return the furthest number of replicas that the rules allow now."""
        if rules.select == "Disabled":
            return current
        allowed = []
        for policy in rules.policies:
            start = current - sum(one for at_s, one in self._changes
                                  if at_s > now_s - policy.period_s)
            if policy.kind == "Pods":
                allowed.append(start + sign * int(policy.value))
            elif sign > 0:
                allowed.append(ceil(start * (1.0 + policy.value / 100.0)))
            else:
                allowed.append(int(start * (1.0 - policy.value / 100.0)))
        furthest = (max if sign > 0 else min) if rules.select == "Max" else (
            min if sign > 0 else max)
        return furthest(allowed)


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


class _Group:
    """Scales one group by the mean of one metric over its pods. A broken metric changes
    nothing."""

    def __init__(self, number: int, facts: GroupFacts, metric: str, target: float, up: Rules,
                 down: Rules) -> None:
        self._number = number
        self._facts = facts
        self._metric = metric
        self._target = target
        self._behaviour = Behaviour(up, down)

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the HPA's number of replicas, and the mean."""
        number, group = self._number, seen.groups[self._number]
        current, behaviour = group.target, self._behaviour
        if current == 0 and self._facts.floor > 0:  # a target of 0 pauses the HPA
            return HOLD
        values = metric_values(group, self._metric)
        known = [value for value in values if value is not None]
        terms = {f"{self._metric}.{number}": sum(known) / len(known)} if known else {}
        desired = desired_replicas(values, len(group.of("waiting", "starting")), current,
                                   self._target, behaviour.up.tolerance,
                                   behaviour.down.tolerance)
        bounded = self._facts.bounded(desired)
        return Wanted({number: behaviour.limited(now_s, current, bounded, self._facts)}, terms)


def metric_values(group: SeenGroup, metric: str) -> list[float | None]:
    """Return a metric of each ready pod, None where its gauges are missing."""
    return [None if one.gauges is None else METRICS[metric](one.gauges)
            for one in group.of("ready")]


def hpa(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the HPA. ``down_window_s`` and ``up_window_s`` are stabilization windows,
    ``tolerance`` is of both directions."""
    tolerance = settings.get("tolerance", 0.1)
    metric, target = settings.get("metric", "num_running"), settings["target"]
    up = Rules(settings.get("up_window_s", UP.window_s), UP.policies, tolerance=tolerance)
    down = Rules(settings.get("down_window_s", DOWN.window_s), DOWN.policies, tolerance=tolerance)
    return LawScaler([_Group(number, facts, metric, target, up, down)
                      for number, facts in enumerate(context.groups)], PERIOD_S,
                     f"mean {metric} against {target:g}")
