"""Ray Serve's autoscaling by ongoing requests.

Source: ray-project/ray python/ray/serve/autoscaling_policy.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

from penstock.policy.scale.history import History, mean_since
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation
from penstock.published.autoscalers.laws import LawScaler, Wanted
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
    def __init__(self, number: int, facts: GroupFacts, settings: RaySettings) -> None:
        self._number = number
        self._facts = facts
        self._settings = settings
        self._ongoing = History[float](settings.look_back_period_s)
        self._told_s = -settings.metrics_interval_s
        self._direction = 0
        self._num_periods = 0  # in that direction, one after another

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the wanted replicas."""
        return Wanted({self._number: self._target(seen, now_s)})

    def _target(self, seen: Observation, now_s: float) -> int:
        group, settings, facts = seen.groups[self._number], self._settings, self._facts
        current = group.target
        if current == 0:
            waiting = held(seen, facts)
            return facts.bounded(ceil(settings.upscaling_factor) if waiting else 0)
        if now_s >= self._told_s + settings.metrics_interval_s:
            found = ongoing(seen, self._number, facts)
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


def ray(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build Ray Serve's policy."""
    found = RaySettings(**settings)
    return LawScaler([_Group(number, facts, found) for number, facts in enumerate(context.groups)],
                     PERIOD_S,
                     f"ongoing requests against {found.target_ongoing_requests:g} a replica",
                     wakes=True)
