"""Ray Serve's autoscaling by ongoing requests.

Source: ray-project/ray python/ray/serve/autoscaling_policy.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from penstock.policy.scale.history import History, mean_since
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, ScalingDecision
from penstock.published.autoscalers.signals import held, ongoing

PERIOD_S = 1.0
"""Period of the policy here. Ray's controller decides ten times a second, on metrics that arrive
every ten seconds; its delays are in seconds, so they are kept."""


@dataclass(frozen=True, slots=True)
class RaySettings:
    """``autoscaling_config`` of a deployment, under Ray's names in seconds."""

    target_ongoing_requests: float = 2.0
    upscale_delay_s: float = 30.0
    downscale_delay_s: float = 600.0
    downscale_to_zero_delay_s: float | None = None
    upscaling_factor: float = 1.0
    downscaling_factor: float = 1.0
    look_back_period_s: float = 30.0
    metrics_interval_s: float = 10.0


class _Group:
    def __init__(self, facts: GroupFacts, settings: RaySettings) -> None:
        self._facts = facts
        self._settings = settings
        self._ongoing = History[float](settings.look_back_period_s)
        self._told_s = -settings.metrics_interval_s
        self._direction = 0
        self._num_periods = 0  # in that direction, one after another

    def target(self, seen: Observation, number: int, now_s: float) -> int:
        """Return the wanted replicas."""
        group, settings, facts = seen.groups[number], self._settings, self._facts
        current = group.target
        if current == 0:
            waiting = held(seen, facts)
            return facts.bounded(ceil(settings.upscaling_factor) if waiting else 0)
        if now_s >= self._told_s + settings.metrics_interval_s:
            found = ongoing(seen, number, facts)
            if found is not None:
                self._ongoing.add(now_s, found)
                self._told_s = now_s
        mean = mean_since(self._ongoing, now_s - settings.look_back_period_s)
        if mean is None or not group.num_ready:
            return current
        return self._delayed(current, facts.bounded(self._desired(current, mean)))

    def _desired(self, current: int, mean: float) -> int:
        settings = self._settings
        change = mean / (settings.target_ongoing_requests * current) - 1.0
        factor = settings.upscaling_factor if change > 0 else settings.downscaling_factor
        desired = ceil(current * (1.0 + change * factor))
        # Rounding up can hold a shrinking deployment for ever.
        return current - 1 if change < 0 and desired == current and factor < 1.0 else desired

    def _delayed(self, current: int, desired: int) -> int:
        """Act only once the same direction has been wanted for the whole delay."""
        direction = (desired > current) - (desired < current)
        if direction == 0 or direction != self._direction:
            self._direction, self._num_periods = direction, 0
        if direction == 0:
            return current
        settings = self._settings
        if desired == 0 and current > 1:
            desired = 1  # zero is reached from one only
        delay_s = settings.upscale_delay_s if direction > 0 else settings.downscale_delay_s
        if desired == 0 and settings.downscale_to_zero_delay_s is not None:
            delay_s = settings.downscale_to_zero_delay_s
        self._num_periods += 1
        if self._num_periods <= int(delay_s / PERIOD_S):
            return current
        self._direction, self._num_periods = 0, 0
        return desired


class RayServe:
    """Scales each group by its ongoing requests per replica, after delays."""

    period_s = PERIOD_S

    def __init__(self, context: ScalerContext, settings: RaySettings) -> None:
        self._groups = [_Group(facts, settings) for facts in context.groups]
        self._target = settings.target_ongoing_requests

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return Ray Serve's numbers of replicas."""
        targets = tuple(group.target(seen, number, now_s)
                        for number, group in enumerate(self._groups))
        return ScalingDecision(targets, f"ongoing requests against {self._target:g} a replica")


def ray(settings: Mapping[str, Any], context: ScalerContext) -> RayServe:
    """Build Ray Serve's policy."""
    return RayServe(context, RaySettings(**settings))
