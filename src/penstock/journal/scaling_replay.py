"""Recorded scaling decisions, asked again of a scaler."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.journal.scaling import Recorded
from penstock.policy.scale.protocol import Scaler


@dataclass(frozen=True, slots=True)
class Difference:
    """The first decision that differs, by the loop's clock."""

    at_s: float
    recorded: tuple[int, ...]
    decided: tuple[int, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class ScalingReplay:
    """Decisions that were asked again, and how many differ. The means are of all replicas over the
    recorded time, as recorded and as decided now."""

    num_decisions: int
    num_different: int
    mean_recorded: float
    mean_decided: float
    first: Difference | None


class _Mean:
    """Mean of a number of replicas over time."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._elapsed_s = 0.0

    def add(self, num: int, for_s: float) -> None:
        """Add a number that held for a time."""
        self._sum += num * for_s
        self._elapsed_s += for_s

    @property
    def value(self) -> float:
        """The mean, 0 without time."""
        return self._sum / self._elapsed_s if self._elapsed_s > 0.0 else 0.0


def replay_scaling(lines: Iterable[dict[str, Any] | Recorded],
                   make: Callable[[dict[str, Any]], Scaler]) -> ScalingReplay:
    """Ask scalers for every recorded decision. ``make`` builds the scaler of a record from its
    header.

    Every scaler sees the recorded observations: the fleet as the recorded decisions left it. So the
    answer of another policy is what that policy would have ordered at each moment, and not what
    would have come of its orders; a simulation tells that.
    """
    scaler: Scaler | None = None
    before: tuple[Recorded, tuple[int, ...]] | None = None
    recorded, decided = _Mean(), _Mean()
    num = num_different = 0
    first: Difference | None = None
    for line in lines:
        if not isinstance(line, Recorded):
            scaler, before = make(line), None
            continue
        assert scaler is not None, "a record begins with its header"
        decision = scaler.decide(line.seen, line.now_s)
        if before is not None:
            recorded.add(sum(before[0].targets), line.now_s - before[0].now_s)
            decided.add(sum(before[1]), line.now_s - before[0].now_s)
        before = (line, decision.targets)
        num += 1
        if decision.targets != line.targets:
            num_different += 1
            first = first or Difference(line.now_s, line.targets, decision.targets,
                                        decision.reason)
    return ScalingReplay(num, num_different, recorded.value, decided.value, first)
