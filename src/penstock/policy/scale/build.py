"""Scalers that look at nothing."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.errors import InputError
from penstock.policy.scale.protocol import ScalerContext
from penstock.policy.scale.values import Observation, ScalingDecision


class Static:
    """Keeps every group at its first number of replicas."""

    period_s = 60.0
    wakes = False

    def __init__(self, targets: tuple[int, ...]) -> None:
        self._targets = targets

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the first numbers."""
        return ScalingDecision(self._targets, "static")


def static(_settings: Mapping[str, Any], context: ScalerContext) -> Static:
    """Build the scaler that changes nothing."""
    return Static(tuple(group.start for group in context.groups))


class Schedule:
    """Keeps the numbers of replicas of a timetable: those of its last row whose time has come, and
    the first numbers before. ``repeat_s`` begins the timetable anew every so many seconds."""

    wakes = False

    def __init__(self, first: tuple[int, ...], steps: Sequence[Sequence[float]], repeat_s: float,
                 period_s: float) -> None:
        self.period_s = period_s
        self._first = first
        self._times = [row[0] for row in steps]
        self._targets = [tuple(int(one) for one in row[1:]) for row in steps]
        self._repeat_s = repeat_s

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the timetable's numbers."""
        again = self._repeat_s > 0.0 and now_s >= self._repeat_s
        at_s = now_s % self._repeat_s if self._repeat_s > 0.0 else now_s
        row = bisect_right(self._times, at_s) - 1
        if row < 0:
            # A timetable that repeats goes on with its last numbers.
            return ScalingDecision(self._targets[-1] if again else self._first, "before the first")
        return ScalingDecision(self._targets[row], f"from {self._times[row]:g} s on")


def schedule(settings: Mapping[str, Any], context: ScalerContext) -> Schedule:
    """Build the scaler that follows a timetable. Raises InputError where the rows do not have a
    number for each group."""
    steps, num_groups = settings["steps"], len(context.groups)
    if len(steps[0]) != num_groups + 1:
        raise InputError(f"policies.scale.steps: expected a time and {num_groups} numbers in every "
                         f"row, one for each of `replicas`; found {len(steps[0]) - 1} numbers")
    return Schedule(tuple(group.start for group in context.groups), steps,
                    float(settings.get("repeat_s", 0.0)), float(settings.get("period_s", 10.0)))
