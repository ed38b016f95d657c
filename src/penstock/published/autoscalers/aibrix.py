"""AIBrix's application-specific pod autoscaler (APA) on metrics of pods.

Source: vllm-project/aibrix @e3e10f9, pkg/controller/podautoscaler/algorithm/apa.go for the law,
podautoscaler_controller.go for bounds and cooldown, context/context.go for the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from penstock.policy.scale.history import History, mean_since
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.pod_metrics import metric_values

PERIOD_S = 10.0


@dataclass(frozen=True, slots=True)
class ApaSettings:
    """Annotations and fields of a PodAutoscaler, in seconds; ``target`` is of the mean over pods.

    The code of AIBrix takes the lowest recommendation of the cooldown where a group shrinks, and
    the highest where the group grows, so its cooldowns hasten changes. ``as_published`` false takes
    the other ends, as HPA's stabilisation does: changes wait for the whole cooldown.
    """

    target: float
    metric: str = "num_running"
    up_tolerance: float = 0.1
    down_tolerance: float = 0.1
    max_up_rate: float = 2.0
    max_down_rate: float = 2.0
    up_cooldown_s: float = 0.0
    down_cooldown_s: float = 300.0
    observe_window_s: float = 180.0
    as_published: bool = True


def recommended(ratio: float, current: int, settings: ApaSettings) -> int:
    """Return the pods for a metric of ``ratio`` times its target."""
    if ratio > 1.0 + settings.up_tolerance:
        return min(ceil(current * ratio), ceil(settings.max_up_rate * current))
    if ratio < 1.0 - settings.down_tolerance:
        return max(ceil(current * ratio), floor(current / settings.max_down_rate))
    return current


class _Group:
    def __init__(self, number: int, facts: GroupFacts, settings: ApaSettings) -> None:
        self._number = number
        self._facts = facts
        self._settings = settings
        self._means = History[float](settings.observe_window_s)
        self._recommended = History[int](max(settings.up_cooldown_s, settings.down_cooldown_s))

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the wanted pods, and the mean of the metric over pods and window."""
        number, group, facts = self._number, seen.groups[self._number], self._facts
        if not facts.floor <= group.target <= facts.ceiling and group.target > 0:
            return Wanted({number: facts.bounded(group.target)})
        known = [value for value in metric_values(group, self._settings.metric)
                 if value is not None]
        if not known or group.target == 0:
            return HOLD
        self._means.add(now_s, sum(known) / len(known))
        mean = mean_since(self._means, now_s - self._settings.observe_window_s)
        assert mean is not None, "a value was just added"
        target = self._cooled(now_s, group.target, facts.bounded(
            recommended(mean / self._settings.target, group.target, self._settings)))
        return Wanted({number: facts.bounded(target)}, {f"{self._settings.metric}.{number}": mean})

    def _cooled(self, now_s: float, current: int, newest: int) -> int:
        """Return the recommendation that counts, of those within the cooldown of its direction."""
        self._recommended.add(now_s, newest)
        if newest == current:
            return current
        settings = self._settings
        up = newest > current
        cooldown_s = settings.up_cooldown_s if up else settings.down_cooldown_s
        within = self._recommended.since(now_s - cooldown_s) or [newest]
        if settings.as_published:
            return max(within) if up else min(within)
        return max(min(within), current) if up else min(max(within), current)


def apa(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the APA."""
    found = ApaSettings(**settings)
    return LawScaler([_Group(number, facts, found) for number, facts in enumerate(context.groups)],
                     PERIOD_S, f"mean {found.metric} of {found.observe_window_s:g} s against "
                               f"{found.target:g}")
