"""Knative's pod autoscaler on concurrency.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Any

from penstock.policy.scale.history import History, mean_since
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.signals import ongoing

PERIOD_S = 2.0


@dataclass(frozen=True, slots=True)
class KpaSettings:
    """Settings under Knative's names, in seconds; ``target`` is the wanted concurrency of a pod."""

    target: float
    stable_window_s: float = 60.0
    panic_window_share: float = 0.1
    panic_threshold: float = 2.0
    max_up_rate: float = 1000.0
    max_down_rate: float = 2.0
    activation: int = 1
    down_delay_s: float = 0.0
    zero_grace_s: float = 30.0


class _Group:
    """State of one group's autoscaler."""

    def __init__(self, number: int, facts: GroupFacts, settings: KpaSettings) -> None:
        self._number = number
        self._facts = facts
        self._settings = settings
        self._ongoing = History[float](settings.stable_window_s)
        self._wanted = History[float](settings.down_delay_s)
        self._is_new = True
        self._panic_since_s = -inf
        self._most_in_panic = 0
        self._idle_since_s = inf

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the wanted pods."""
        group, settings = seen.groups[self._number], self._settings
        if self._is_new:
            self._begin(group.num_ready, now_s)
        found = ongoing(seen, self._number, self._facts)
        if found is None:
            return HOLD
        self._ongoing.add(now_s, found)
        stable = mean_since(self._ongoing, now_s - settings.stable_window_s)
        panic = mean_since(self._ongoing,
                           now_s - settings.panic_window_share * settings.stable_window_s)
        assert stable is not None, "a value was just added"
        assert panic is not None, "a value was just added"
        ready = max(1, group.num_ready)
        wanted = [self._clamped(ceil(value / settings.target), ready) for value in (stable, panic)]
        found_pods = self._in_panic(wanted[0], wanted[1], ready, now_s)
        if settings.down_delay_s > 0.0:
            self._wanted.add(now_s, found_pods)
            found_pods = int(max(self._wanted.since(now_s - settings.down_delay_s)))
        return Wanted({self._number: self._facts.bounded(
            self._to_zero(found_pods, group, now_s))})

    def _begin(self, num_ready: int, now_s: float) -> None:
        """Start in panic where several pods are ready: an autoscaler that was restarted cannot
        shrink."""
        self._is_new = False
        if num_ready > 1:
            self._panic_since_s, self._most_in_panic = now_s, num_ready

    def _clamped(self, wanted: int, ready: int) -> int:
        settings = self._settings
        if wanted > 0:
            wanted = max(wanted, settings.activation)
        return min(max(wanted, floor(ready / settings.max_down_rate)),
                   ceil(settings.max_up_rate * ready))

    def _in_panic(self, stable: int, panic: int, ready: int, now_s: float) -> int:
        settings = self._settings
        over = panic / ready >= settings.panic_threshold
        panics = self._panic_since_s > -inf
        if over:
            self._panic_since_s = now_s
        elif panics and now_s > self._panic_since_s + settings.stable_window_s:
            self._panic_since_s, self._most_in_panic = -inf, 0
        if self._panic_since_s == -inf:
            return stable
        self._most_in_panic = max(self._most_in_panic, stable, panic)
        return self._most_in_panic

    def _to_zero(self, wanted: int, group: SeenGroup, now_s: float) -> int:
        """Keep a pod until the group has been idle for the grace period."""
        if wanted > 0:
            self._idle_since_s = inf
            return wanted
        self._idle_since_s = min(self._idle_since_s, now_s)
        waited = now_s - self._idle_since_s >= self._settings.zero_grace_s
        return 0 if waited or not group.num_ordered else 1


def kpa(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build the KPA, fast in panic and slow else."""
    found = KpaSettings(**settings)
    return LawScaler([_Group(number, facts, found) for number, facts in enumerate(context.groups)],
                     PERIOD_S, f"concurrency against {found.target:g} a pod", wakes=True)
