"""The contract of scalers, and the facts that they are built with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from penstock.core.slo import ServiceClass
from penstock.core.step import StepFeatures
from penstock.policy.route.roles import BOTH
from penstock.policy.scale.values import Observation, ScalingDecision, SeenDemand


@dataclass(frozen=True, slots=True)
class Load:
    """Arrivals per second of one class, and recent (prompt, output) tokens of its requests."""

    rate_per_s: float
    lengths: tuple[tuple[int, int], ...]


def recent_loads(demand: Sequence[SeenDemand]) -> dict[str, Load]:
    """Return the recent loads by class, without classes of which no answer is known. Their rates
    are shares of all arrivals."""
    total = sum(one.num_arrived for one in demand)
    return {one.service_class: Load(one.num_arrived / total, one.recent)
            for one in demand if one.recent and one.num_arrived}


def num_waiting(seen: Observation, demand: Sequence[SeenDemand], numbers: Sequence[int]) -> int:
    """Return the requests that wait at the gateway and at the engines of these groups."""
    return sum(one.num_held for one in demand) + sum(
        seen.groups[number].num_waiting for number in numbers)


class ReplicaRate(NamedTuple):
    """Requests per second of one replica: within every class's objective, and at which its queue
    begins to grow without end. The second depends on the mean work of a request alone, to which
    each prompt token adds ``token_s`` seconds of the replica, and the square of a prompt's tokens,
    by attention, ``square_s`` for each."""

    in_time_per_s: float
    saturation_per_s: float
    token_s: float = 0.0
    square_s: float = 0.0


Capacity = Callable[[Mapping[str, Load]], ReplicaRate]
"""Function that returns the rates of one replica where the classes have the given loads by name;
only the ratios of their rates matter."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """Constant facts about a group: its bounds, its cost and how long a replica is believed to
    start. ``service_classes`` is None where it serves every class. ``power_w`` is that of a
    replica's accelerators, None where unknown. ``objective_per_hour`` is what a replica costs by
    the fleet's objective (watts, gCO2), None where that is money.

    ``max_num_seqs`` and ``step_tokens`` are the most sequences and tokens of an engine's step, None
    where unknown. ``role`` says whether replicas compute prompts, answers or both.
    """

    model: str
    floor: int
    ceiling: int
    start: int
    cost_per_hour: float
    start_s: float
    kv_total_tokens: int
    service_classes: frozenset[str] | None = None
    max_num_seqs: int | None = None
    step_tokens: int | None = None
    num_accelerators: int = 1
    power_w: float | None = None
    objective_per_hour: float | None = None
    role: str = BOTH

    @property
    def weight(self) -> float:
        """Return what one replica costs in an hour by the fleet's objective."""
        return self.cost_per_hour if self.objective_per_hour is None else self.objective_per_hour

    def serves(self, service_class: str) -> bool:
        """Whether the group serves requests of a class."""
        return self.service_classes is None or service_class in self.service_classes

    def bounded(self, count: float) -> int:
        """Return a number of replicas within the group's bounds."""
        return int(min(max(count, self.floor), self.ceiling))

    def narrowed(self, least: int, most: int) -> "GroupFacts":
        """Return the facts with bounds from ``least`` to ``most`` within the group's own."""
        return replace(self, floor=self.bounded(least), ceiling=self.bounded(max(least, most)))


@dataclass(frozen=True, slots=True)
class Budget:
    """Most that all replicas whose accelerators are held may cost and draw; None for no limit."""

    cost_per_hour: float | None = None
    power_w: float | None = None


StepSeconds = Callable[[StepFeatures], float]
"""Function that returns the believed duration of a step of one replica."""


Speed = Callable[[], float]
"""Function that returns the rate of one replica over the believed rate, as calibrated."""


@dataclass(frozen=True, slots=True)
class ScalerContext:
    """All that a scaler is built with. ``capacity`` and ``step_s`` have a function for each
    group, and so have ``speeds`` where the fleet calibrates. ``budget`` is None where nothing
    limits all groups together."""

    groups: tuple[GroupFacts, ...]
    classes: Mapping[str, ServiceClass]
    capacity: tuple[Capacity, ...] = field(default=())
    step_s: tuple[StepSeconds, ...] = field(default=())
    budget: Budget | None = None
    speeds: tuple[Speed, ...] = field(default=())


class Scaler(Protocol):
    """A policy for the number of replicas, asked every ``period_s`` seconds. With ``wakes``, the
    policy is also asked when a request finds no replica, at most once a second."""

    period_s: float
    wakes: bool

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the wanted number of replicas of each group.

        Called with rising times. A scaler keeps what it needs of earlier observations.
        """
