"""KEDA on metrics of a router and its engines, as llm-d's blueprints set it up.

KEDA's operator changes 0 to 1 and 1 to 0; between, the HPA that KEDA owns scales by external
metrics. Sources: KEDA 2.19's documentation of ScaledObject, and llm-d
docs/architecture/advanced/autoscaling/keda-epp.md for the triggers and their targets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, inf
from typing import Any

from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.published.autoscalers.hpa import DOWN, PERIOD_S, UP, Behaviour, Rules, rules_of
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.pod_metrics import PodMetric, pod_metrics
from penstock.published.autoscalers.signals import gauges_of, held

SATURATED_QUEUE = 5.0
SATURATED_KV_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class KedaSettings:
    """Triggers of a ScaledObject, and its times in seconds.

    ``queue`` and ``running`` are the wanted requests per replica that wait and run
    (``AverageValue``); ``saturation`` is the wanted mean over replicas of the larger of
    waiting / 5 and KV use / 0.8 (``Value``). ``metrics`` are triggers whose queries name metrics of
    engines; they stand in the place of ``triggers``. ``up`` and ``down`` are the HPA's rules.
    After more than ``fallback_failures`` readings without a value, one after another, KEDA proposes
    ``fallback_replicas``, as ``fallback`` says; None waits for values.
    """

    triggers: tuple[str, ...] = ("queue", "running")
    queue: float = 1.0
    running: float = 16.0
    saturation: float = 1.0
    cooldown_s: float = 300.0
    polling_s: float = 30.0
    up: Rules = UP
    down: Rules = DOWN
    metrics: tuple[PodMetric, ...] = ()
    fallback_failures: int | None = None
    fallback_replicas: int = 0
    fallback: str = "static"


class Actuator:
    """KEDA's operator and the HPA that the operator owns, for one group."""

    def __init__(self, facts: GroupFacts, up: Rules, down: Rules, cooldown_s: float,
                 polling_s: float) -> None:
        self._facts = facts
        self._behaviour = Behaviour(up, down)
        self._cooldown_s = cooldown_s
        self._polling_s = polling_s
        self._active_s = -inf
        self._polled_s = -inf

    def ordered(self, now_s: float, current: int, desired: int, *, active: bool) -> int:
        """Return the replicas to order. A trigger is ``active`` where its value is above 0, which
        alone leads from zero to one."""
        facts = self._facts
        if facts.floor == 0 and now_s >= self._polled_s + self._polling_s:
            self._polled_s = now_s
            if active:
                self._active_s = now_s
        if current == 0:
            return 1 if self._active_s == now_s else 0
        if facts.floor == 0 and now_s - self._active_s >= self._cooldown_s:
            return 0
        return self._behaviour.limited(now_s, current, max(1, facts.bounded(desired)), facts)


class _Group:
    def __init__(self, number: int, facts: GroupFacts, settings: KedaSettings) -> None:
        self._number = number
        self._facts = facts
        self._settings = settings
        self._actuator = Actuator(facts, settings.up, settings.down, settings.cooldown_s,
                                  settings.polling_s)
        self._num_failed = 0  # one after another

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return KEDA's number of replicas, and the triggers' values."""
        group = seen.groups[self._number]
        found = self._by_values(seen, group, now_s)
        self._num_failed = self._num_failed + 1 if found is HOLD else 0
        most = self._settings.fallback_failures
        if most is None or self._num_failed <= most:
            return found
        proposed = FALLBACKS[self._settings.fallback](group.target,
                                                      self._settings.fallback_replicas)
        return Wanted({self._number: self._actuator.ordered(now_s, group.target, proposed,
                                                            active=proposed > 0)})

    def _by_values(self, seen: Observation, group: SeenGroup, now_s: float) -> Wanted:
        if self._settings.metrics:
            return self._by_metrics(group, now_s)
        values = {name: TRIGGERS[name](group, held(seen, self._facts))
                  for name in self._settings.triggers}
        if any(value is None for value in values.values()):
            return HOLD  # a failed trigger changes nothing
        known = {name: value for name, value in values.items() if value is not None}
        current = group.target
        desired = max(self._desired(name, value, current) for name, value in known.items())
        ordered = self._actuator.ordered(now_s, current, desired, active=any(known.values()))
        return Wanted({self._number: ordered},
                      {f"{name}.{self._number}": value for name, value in known.items()})

    def _by_metrics(self, group: SeenGroup, now_s: float) -> Wanted:
        """Return the replicas for the queries' values, which are 0 without a pod."""
        settings, current = self._settings, group.target
        if gauges_of(group, "ready", "draining") is None:
            return HOLD
        values = [(one, one.value(group) or 0.0) for one in settings.metrics]
        desired = max(one.of_value(value, current, group.num_ready, settings.up.tolerance,
                                   settings.down.tolerance) for one, value in values)
        ordered = self._actuator.ordered(
            now_s, current, desired, active=any(value > one.activation for one, value in values))
        return Wanted({self._number: ordered},
                      {f"{one.metric}.{self._number}": value for one, value in values})

    def _desired(self, name: str, value: float, current: int) -> int:
        target = float(getattr(self._settings, name))
        replicas = value / target * (current if name == "saturation" else 1)
        up, down = self._settings.up.tolerance, self._settings.down.tolerance
        if current and -down <= replicas / current - 1.0 <= up:
            return current
        return ceil(replicas)


def rounded(replicas: float, current: int, tolerance: float) -> int:
    """Return the replicas that an HPA asks for, which ignores small changes."""
    if current and abs(replicas / current - 1.0) <= tolerance:
        return current
    return ceil(replicas)


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


FALLBACKS: Mapping[str, Callable[[int, int], int]] = {
    "static": lambda _current, stated: stated, "currentReplicas": lambda current, _: current,
    "currentReplicasIfHigher": max, "currentReplicasIfLower": min}
"""Replicas that KEDA proposes without values, from the present and the stated number."""


def keda(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build KEDA's scaler."""
    given = {key: settings[key] for key in _OWN if key in settings}
    if "triggers" in given:
        given["triggers"] = tuple(given["triggers"])
    found = KedaSettings(**given, up=rules_of(settings, "up"), down=rules_of(settings, "down"),
                         metrics=pod_metrics(settings.get("metrics", ())))
    names = [one.metric for one in found.metrics] or found.triggers
    return LawScaler([_Group(number, facts, found) for number, facts in enumerate(context.groups)],
                     PERIOD_S, f"largest of {', '.join(names)}")


_OWN = ("triggers", "queue", "running", "saturation", "cooldown_s", "polling_s",
        "fallback_failures", "fallback_replicas", "fallback")
