"""Kubernetes' HorizontalPodAutoscaler v2 on metrics of pods and on external metrics.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/horizontal.go, and the page
horizontal-pod-autoscale of kubernetes.io.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal, NamedTuple

from penstock.core.errors import InputError
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.pod_metrics import PodMetric, most_desired, pod_metrics

PERIOD_S = 15.0

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


def rules_of(settings: Mapping[str, Any], direction: Literal["up", "down"]) -> Rules:
    """Return the rules of one direction. ``tolerance`` is of both directions, ``up_tolerance`` of
    one."""
    default = UP if direction == "up" else DOWN
    rows = settings.get(f"{direction}_policies")
    policies = default.policies if rows is None else tuple(Policy(**row) for row in rows)
    tolerance = settings.get(f"{direction}_tolerance",
                             settings.get("tolerance", default.tolerance))
    return Rules(settings.get(f"{direction}_window_s", default.window_s), policies,
                 settings.get(f"{direction}_select", default.select), tolerance)


class _Group:
    """Scales one group by the largest proposal of its metrics."""

    def __init__(self, number: int, facts: GroupFacts, metrics: tuple[PodMetric, ...], up: Rules,
                 down: Rules) -> None:
        self._number = number
        self._facts = facts
        self._metrics = metrics
        self._behaviour = Behaviour(up, down)

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the HPA's number of replicas, and the metrics' values."""
        number, group = self._number, seen.groups[self._number]
        current, behaviour = group.target, self._behaviour
        if current == 0 and self._facts.floor > 0:  # a target of 0 pauses the HPA
            return HOLD
        values = [(one.metric, one.value(group)) for one in self._metrics]
        terms = {f"{name}.{number}": value for name, value in values if value is not None}
        desired = most_desired(
            [one.desired(group, behaviour.up.tolerance, behaviour.down.tolerance)
             for one in self._metrics], current)
        bounded = self._facts.bounded(desired)
        return Wanted({number: behaviour.limited(now_s, current, bounded, self._facts)}, terms)


def hpa(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the HPA. ``metric`` and ``target`` are of one metric of pods; ``metrics`` has further
    ones, of pods or external. ``down_window_s`` and ``up_window_s`` are stabilization windows,
    ``up_policies`` and ``down_policies`` limits of the rate.

    Raises InputError for a metric without a target.
    """
    if "metric" in settings and "target" not in settings:
        raise InputError("policies.scale.metric: has no target; expected target")
    metrics = (() if "target" not in settings else
               (PodMetric(settings.get("metric", "num_running"), settings["target"]),)
               ) + pod_metrics(settings.get("metrics", ()))
    up, down = rules_of(settings, "up"), rules_of(settings, "down")
    return LawScaler([_Group(number, facts, metrics, up, down)
                      for number, facts in enumerate(context.groups)], PERIOD_S,
                     " or ".join(f"{_JOINED[one.of]}{one.metric} against {one.target:g}"
                                 for one in metrics))


_JOINED = {"pods": "mean ", "sum": "sum of ", "mean": "mean ", "max": "max ", "min": "min "}
