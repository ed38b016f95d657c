"""llm-d's Workload Variant Autoscaler: its loop, and the HPA that follows its gauge.

The groups of one model are its variants. An analysis wants replicas of each once a minute, from the
peaks of every replica's gauges of the last minute; an HPA for each variant follows
``wva_desired_replicas`` with the target 1 a pod.

Source: llm-d-incubation/workload-variant-autoscaler internal/engines/saturation/engine.go,
internal/engines/pipeline/enforcer.go for zero, charts/workload-variant-autoscaler/values.yaml for
the HPA.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from penstock.policy.scale.history import History
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.published.autoscalers.hpa import PERIOD_S, Behaviour, Policy, Rules
from penstock.published.autoscalers.laws import LawScaler, Wanted
from penstock.published.autoscalers.signals import held

OPTIMIZE_S = 60.0
PEAK_S = 60.0
ZERO_POLL_S = 1.0
"""Period where a model may have no replica. The published loop then polls ten times a second."""

HPA_POLICIES = (Policy("Pods", 10.0, 150.0),)


class Peak(NamedTuple):
    """Highest gauges of one replica within a minute."""

    kv_used_share: float
    num_waiting: int


class Variant(NamedTuple):
    """A group with its ordered replicas, and the peaks of the ready ones."""

    number: int
    facts: GroupFacts
    current: int
    peaks: tuple[Peak, ...]

    @property
    def num_pending(self) -> int:
        """Number of replicas that are ordered and not ready."""
        return self.current - len(self.peaks)


class Analysis(ABC):
    """Wanted replicas of one model's variants."""

    @abstractmethod
    def observe(self, seen: Observation, now_s: float) -> None:
        """Keep what later analyses need. Called every 15 s."""

    @abstractmethod
    def optimized(self, variants: Sequence[Variant], desired: Mapping[int, int],
                  seen: Observation, now_s: float) -> Wanted | None:
        """Return the wanted replicas by group, where ``desired`` are those wanted last, or None to
        hold."""


class _Peaks:
    """Peaks of the gauges of one group's replicas."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, float], History[Peak]] = {}

    def add(self, group: SeenGroup, now_s: float) -> None:
        """Add the gauges of the ready replicas, and forget the others."""
        kept = {}
        for one in group.of("ready"):
            key = (one.replica_id, one.since_s)  # a new engine may have an old number
            kept[key] = self._seen.get(key) or History[Peak](PEAK_S)
            if one.gauges is not None:
                kept[key].add(now_s, Peak(one.gauges.kv_used_share, one.gauges.num_waiting))
        self._seen = kept

    def found(self, now_s: float) -> tuple[Peak, ...] | None:
        """Return the peaks of the ready replicas, None where any has none."""
        recent = [values.since(now_s - PEAK_S) for values in self._seen.values()]
        if not all(recent):
            return None
        return tuple(Peak(max(one.kv_used_share for one in values),
                          max(one.num_waiting for one in values)) for values in recent)


class _Model:
    """Loop of one model."""

    def __init__(self, facts: Mapping[int, GroupFacts], analysis: Analysis, rules: Rules,
                 retention_s: float) -> None:
        self._facts = facts
        self._analysis = analysis
        self._retention_s = retention_s
        self._desired: dict[int, int] = {}
        self._found = Wanted({})
        self._peaks = {number: _Peaks() for number in facts}
        self._hpas = {number: Behaviour(rules, rules) for number in facts}
        self._finished = History[int](retention_s)
        self._next_s = -inf
        self._next_optimized_s = -inf

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the HPAs' numbers of replicas."""
        woken = self._woken(seen)
        if woken:
            self._desired.update(woken)
            return Wanted(woken, {}, "requests wait for a model without replicas")
        if now_s < self._next_s:
            return Wanted({})
        self._next_s = now_s + PERIOD_S
        self._observe(seen, now_s)
        if now_s >= self._next_optimized_s:
            self._next_optimized_s = now_s + OPTIMIZE_S
            self._optimize(seen, now_s)
        targets = {number: self._followed(number, seen.groups[number].target, now_s)
                   for number in self._desired}
        return Wanted(targets, {**self._found.terms, **{
            f"wva_desired_replicas.{number}": float(count)
            for number, count in self._desired.items()}}, self._found.reason)

    def _observe(self, seen: Observation, now_s: float) -> None:
        for number, peaks in self._peaks.items():
            peaks.add(seen.groups[number], now_s)
        totals = [seen.groups[number].totals for number in self._facts]
        if None not in totals:
            self._finished.add(now_s, sum(one.num_finished for one in totals if one))
        self._analysis.observe(seen, now_s)

    def _optimize(self, seen: Observation, now_s: float) -> None:
        """Take over what the analysis wants, none of all variants where the model idles."""
        found = {number: peaks.found(now_s) for number, peaks in self._peaks.items()}
        if None in found.values():
            return
        variants = [Variant(number, self._facts[number], seen.groups[number].num_ordered, peaks)
                    for number, peaks in found.items() if peaks is not None]
        wanted = self._analysis.optimized(variants, self._desired, seen, now_s)
        if wanted is not None:
            self._found = wanted
            self._desired.update({number: self._facts[number].bounded(count)
                                  for number, count in wanted.targets.items()})
        if self._idle(now_s):
            self._found = Wanted({}, {}, f"no request finished in {self._retention_s:g} s")
            self._desired = dict.fromkeys(self._facts, 0)

    def _idle(self, now_s: float) -> bool:
        """Whether the model may have no replicas, and answered nothing for the retention."""
        if any(facts.floor for facts in self._facts.values()):
            return False
        first = self._finished.at(now_s - self._retention_s)
        last = self._finished.at(now_s)
        return first is not None and last is not None and first[1] == last[1] \
            and first[0] <= now_s - self._retention_s

    def _woken(self, seen: Observation) -> dict[int, int]:
        """Return a replica of every variant where requests wait and the model has none."""
        if any(seen.groups[number].target for number in self._facts):
            return {}
        waits = any(held(seen, facts) for facts in self._facts.values())
        return dict.fromkeys(self._facts, 1) if waits else {}

    def _followed(self, number: int, current: int, now_s: float) -> int:
        """Return the replicas that the variant's HPA orders."""
        facts, behaviour, desired = self._facts[number], self._hpas[number], self._desired[number]
        if current == 0 and facts.floor > 0:  # a target of 0 pauses the HPA
            return current
        tolerance = behaviour.up.tolerance
        if current and 1.0 - tolerance <= desired / current <= 1.0 + tolerance:
            desired = current
        return behaviour.limited(now_s, current, facts.bounded(desired), facts)


def wva(context: ScalerContext, build: Callable[[Mapping[int, GroupFacts]], Analysis],
        window_s: float, tolerance: float, retention_s: float, reason: str) -> LawScaler:
    """Build the loop with an analysis for each model. ``window_s`` is the HPAs' stabilisation in
    both directions, ``retention_s`` the time without a request after which a model ends."""
    rules = Rules(window_s, HPA_POLICIES, tolerance=tolerance)
    models: dict[str, dict[int, GroupFacts]] = {}
    for number, facts in enumerate(context.groups):
        models.setdefault(facts.model, {})[number] = facts
    to_zero = any(all(one.floor == 0 for one in facts.values()) for facts in models.values())
    return LawScaler([_Model(facts, build(facts), rules, retention_s)
                      for facts in models.values()],
                     ZERO_POLL_S if to_zero else PERIOD_S, reason)
