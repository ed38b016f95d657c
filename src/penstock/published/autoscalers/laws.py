"""The scaler that asks laws, each for the groups that the law scales."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from penstock.policy.scale.values import Observation, ScalingDecision


class Wanted(NamedTuple):
    """Wanted replicas by the number of the group, the figures that decided and the cause.

    A group that is left out keeps its target.
    """

    targets: Mapping[int, int]
    terms: Mapping[str, float] = {}
    reason: str = ""


HOLD = Wanted({})
"""No change, for want of data."""


class Law(Protocol):
    """Law for one group, or for all groups of one model."""

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the wanted replicas of the law's groups. Called with rising times."""


class LawScaler:
    """Asks every law. ``reason`` is the cause of decisions of which no law states one. ``wakes``
    says whether a request without a replica asks for a decision."""

    def __init__(self, laws: Sequence[Law], period_s: float, reason: str, *,
                 wakes: bool = False) -> None:
        self.period_s = period_s
        self.wakes = wakes
        self._laws = tuple(laws)
        self._reason = reason

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the numbers of replicas that the laws want."""
        targets = [group.target for group in seen.groups]
        terms: dict[str, float] = {}
        reasons: dict[str, None] = {}
        for law in self._laws:
            found = law.wanted(seen, now_s)
            terms.update(found.terms)
            if found.reason:
                reasons[found.reason] = None
            for number, target in found.targets.items():
                targets[number] = target
        return ScalingDecision(tuple(targets), "; ".join(reasons) or self._reason, terms)
