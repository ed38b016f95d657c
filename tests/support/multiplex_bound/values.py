"""Values of the bound of a multiplexing run: its inputs and its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from penstock.core.errors import InputError
from penstock.policy.multiplex.values import BatchTime, HostedModel

NOTHING = BatchTime(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """A device that starts with nothing on it and runs one static batch at a time. ``after`` is
    for how long it stays taken when the answers of a batch are there."""

    memory_bytes: int
    max_residents: int | None = None
    after: BatchTime = NOTHING

    def num_residents(self, models: Sequence[HostedModel]) -> int:
        """How many of these models it may hold at once, by number and by the smallest."""
        free, num = self.memory_bytes, 0
        for size in sorted(model.size_bytes for model in models):
            free -= size
            if free < 0:
                break
            num += 1
        return num if self.max_residents is None else min(num, self.max_residents)

    def largest_batch(self, model: HostedModel) -> int:
        """The largest batch of a model that has the device to itself; 0 where it does not fit."""
        free = self.memory_bytes - model.size_bytes
        if free < 0:
            return 0
        room = free // model.request_bytes if model.request_bytes else model.max_batch
        return min(room, model.max_batch)


@dataclass(frozen=True, slots=True)
class BoundOptions:
    """``slot_s``: into what time is cut; shorter slots bound more tightly and take longer.
    ``end_s``: answers from then on do not count. ``time_limit_s``: for the solver."""

    slot_s: float = 2.0
    end_s: float = inf
    time_limit_s: float = 120.0

    def __post_init__(self) -> None:
        if not 0.0 < self.slot_s < inf or self.end_s <= 0.0 or self.time_limit_s <= 0.0:
            raise InputError(f"slot_s {self.slot_s:g}, end_s {self.end_s:g}, time_limit_s "
                             f"{self.time_limit_s:g}: expected numbers above 0")


@dataclass(frozen=True, slots=True)
class Bound:
    """No schedule answers more than ``num_in_time`` of ``num_received`` requests before their
    deadlines. ``relaxed`` is the same before rounding down, ``num_possible`` who could be in time
    were there nobody else. ``solved``: whether the solver came to its end; if not, the bound holds
    but could be tighter."""

    num_in_time: int
    num_received: int
    num_possible: int
    relaxed: float
    num_slots: int
    seconds: float
    solved: bool

    @property
    def share(self) -> float:
        """Largest share of received requests that may be in time; 1 where none came."""
        return self.num_in_time / self.num_received if self.num_received else 1.0
