"""Scalers without a publication."""

from collections.abc import Mapping
from typing import Any

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
