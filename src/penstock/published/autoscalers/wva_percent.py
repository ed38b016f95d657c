"""llm-d's Workload Variant Autoscaler with its first analysis: saturation in percent.

Source: llm-d-incubation/workload-variant-autoscaler internal/saturation/analyzer.go. A variant at
its most replicas is passed over, as in the later optimizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.policy.scale.protocol import ScalerContext
from penstock.policy.scale.values import Observation
from penstock.published.autoscalers.laws import LawScaler, Wanted
from penstock.published.autoscalers.wva import Analysis, Peak, Variant, wva

LEAST_UNSATURATED = 2
"""Unsaturated replicas below which none is removed."""


@dataclass(frozen=True, slots=True)
class PercentSettings:
    """Thresholds of a saturated replica, and least mean spares of the others below which a replica
    is added. The times are of the HPA and of a model without requests, in seconds."""

    kv_threshold: float = 0.8
    queue_threshold: float = 5.0
    kv_spare: float = 0.1
    queue_spare: float = 3.0
    window_s: float = 240.0
    tolerance: float = 0.1
    retention_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Spare:
    """Number of unsaturated replicas, and the means of their spares."""

    num_replicas: int
    kv: float
    queue: float


def spare_of(peaks: Sequence[Peak], settings: PercentSettings) -> Spare:
    """Return the spare of the unsaturated replicas, 0 without any."""
    free = [one for one in peaks if one.kv_used_share < settings.kv_threshold
            and one.num_waiting < settings.queue_threshold]
    if not free:
        return Spare(0, 0.0, 0.0)
    return Spare(len(free),
                 sum(settings.kv_threshold - one.kv_used_share for one in free) / len(free),
                 sum(settings.queue_threshold - one.num_waiting for one in free) / len(free))


def safe_without_one(spare: Spare, settings: PercentSettings) -> bool:
    """Whether the spares would stay above their least values with one replica less."""
    n = spare.num_replicas
    if n < LEAST_UNSATURATED:
        return False

    def left(threshold: float, mean: float) -> float:
        return threshold - (threshold - mean) * n / (n - 1)

    return (left(settings.kv_threshold, spare.kv) >= settings.kv_spare
            and left(settings.queue_threshold, spare.queue) >= settings.queue_spare)


class Percent(Analysis):
    """Adds a replica of the cheapest variant, or removes one of the dearest. Holds while any
    variant changes."""

    def __init__(self, settings: PercentSettings) -> None:
        self._settings = settings

    def observe(self, seen: Observation, now_s: float) -> None:
        """Keep nothing."""

    def optimized(self, variants: Sequence[Variant], desired: Mapping[int, int],
                  seen: Observation, now_s: float) -> Wanted | None:
        peaks = [peak for one in variants for peak in one.peaks]
        if not peaks or any(one.num_pending or desired.get(one.number, one.current) != one.current
                            for one in variants):
            return None
        settings = self._settings
        spare = spare_of(peaks, settings)
        targets = {one.number: one.current for one in variants}
        terms = {"kv_spare": spare.kv, "queue_spare": spare.queue}
        if spare.kv < settings.kv_spare or spare.queue < settings.queue_spare:
            more = [one for one in variants if one.current < one.facts.ceiling]
            if more:
                targets[min(more, key=_cost).number] += 1
            return Wanted(targets, terms, "spare below its trigger")
        if safe_without_one(spare, settings):
            fewer = [one for one in variants if one.current > max(1, one.facts.floor)]
            if fewer:
                targets[max(fewer, key=_cost).number] -= 1
                return Wanted(targets, terms, "spare also with one replica less")
        return Wanted(targets, terms)


def _cost(variant: Variant) -> tuple[float, int]:
    return variant.facts.cost_per_hour, variant.number


def wva_percent(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the autoscaler of saturation in percent."""
    found = PercentSettings(**settings)
    return wva(context, lambda _: Percent(found), found.window_s, found.tolerance,
               found.retention_s, "saturation in percent")
