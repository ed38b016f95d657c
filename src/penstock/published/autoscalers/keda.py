"""KEDA on metrics of a router and its engines, as llm-d's blueprints set it up.

KEDA's operator changes 0 to 1 and 1 to 0; between, the HPA that KEDA owns scales by external
metrics. Sources: KEDA 2.19's documentation of ScaledObject, and llm-d
docs/architecture/advanced/autoscaling/keda-epp.md for the triggers and their targets.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, ScalingDecision, SeenGroup
from penstock.published.autoscalers.hpa import DOWN, PERIOD_S, UP, Behaviour, Rules
from penstock.published.autoscalers.signals import gauges_of, held

SATURATED_QUEUE = 5.0
SATURATED_KV_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """Triggers of a ScaledObject, and its times in seconds.

    ``queue`` and ``running`` are the wanted requests per replica that wait and run
    (``AverageValue``); ``saturation`` is the wanted mean over replicas of the larger of
    waiting / 5 and KV use / 0.8 (``Value``).
    """

    triggers: tuple[str, ...] = ("queue", "running")
    queue: float = 1.0
    running: float = 16.0
    saturation: float = 1.0
    cooldown_s: float = 300.0
    polling_s: float = 30.0
    tolerance: float = 0.1
    up_window_s: float = UP.window_s
    down_window_s: float = DOWN.window_s


class _Group:
    def __init__(self, facts: GroupFacts, settings: KedaSettings) -> None:
        self._facts = facts
        self._settings = settings
        self._behaviour = Behaviour(
            Rules(settings.up_window_s, UP.policies, tolerance=settings.tolerance),
            Rules(settings.down_window_s, DOWN.policies, tolerance=settings.tolerance))
        self._active_s = -inf
        self._polled_s = -inf

    def target(self, seen: Observation, number: int, now_s: float
               ) -> tuple[int, dict[str, float]]:
        """Return the wanted replicas, and the triggers' values."""
        group, settings, facts = seen.groups[number], self._settings, self._facts
        values = {name: TRIGGERS[name](group, held(seen, facts)) for name in settings.triggers}
        if any(value is None for value in values.values()):
            return group.target, {}  # a failed trigger changes nothing
        known = {name: value for name, value in values.items() if value is not None}
        if facts.floor == 0 and now_s >= self._polled_s + settings.polling_s:
            self._polled_s = now_s
            if any(known.values()):
                self._active_s = now_s
        if group.target == 0:
            return (1 if self._active_s == now_s else 0), known
        if facts.floor == 0 and now_s - self._active_s >= settings.cooldown_s:
            return 0, known
        current = group.target
        desired = max(self._desired(name, value, current) for name, value in known.items())
        bounded = max(1, facts.bounded(desired))
        return self._behaviour.limited(now_s, current, bounded, facts), known

    def _desired(self, name: str, value: float, current: int) -> int:
        target = float(getattr(self._settings, name))
        ratio = value / target if name == "saturation" else value / (target * current)
        if abs(ratio - 1.0) <= self._settings.tolerance:
            return current
        return ceil(current * ratio if name == "saturation" else value / target)


def _waiting(group: SeenGroup, num_held: int) -> float | None:
    gauges = gauges_of(group, "ready", "draining")
    return None if gauges is None else float(num_held + sum(one.num_waiting for one in gauges))


def _running(group: SeenGroup, _num_held: int) -> float | None:
    gauges = gauges_of(group, "ready", "draining")
    return None if gauges is None else float(sum(one.num_running for one in gauges))


def _saturation(group: SeenGroup, num_held: int) -> float | None:
    gauges = gauges_of(group, "ready")
    if gauges is None:
        return None
    found = [max(one.num_waiting / SATURATED_QUEUE, one.kv_used_share / SATURATED_KV_SHARE)
             for one in gauges]
    return sum(found) / len(found) if found else float(num_held > 0)


TRIGGERS: Mapping[str, Callable[[SeenGroup, int], float | None]] = {
    "queue": _waiting, "running": _running, "saturation": _saturation}
"""Values of triggers by name, from a group and its held requests; None where a metric is
missing."""


class Keda:
    """Scales each group by the largest of its triggers' recommendations."""

    period_s = PERIOD_S

    def __init__(self, groups: Sequence[GroupFacts], settings: KedaSettings) -> None:
        self._groups = [_Group(facts, settings) for facts in groups]
        self._triggers = ", ".join(settings.triggers)

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return KEDA's numbers of replicas."""
        found = [group.target(seen, number, now_s) for number, group in enumerate(self._groups)]
        return ScalingDecision(
            tuple(target for target, _ in found), f"largest of {self._triggers}",
            {f"{name}.{number}": value for number, (_, values) in enumerate(found)
             for name, value in values.items()})


def keda(settings: Mapping[str, Any], context: ScalerContext) -> Keda:
    """Build KEDA's scaler."""
    given = dict(settings)
    if "triggers" in given:
        given["triggers"] = tuple(given["triggers"])
    return Keda(context.groups, KedaSettings(**given))
