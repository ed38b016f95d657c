"""What the simulated devices really take, apart from what a policy believes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from penstock.policy.residency.values import Batch, BatchTime


class Took(NamedTuple):
    """Seconds, whether it failed at the end of them, and for how long the device stays taken after
    them (answers are written down, say)."""

    seconds: float
    failed: bool = False
    after_s: float = 0.0


class Machine(Protocol):
    """How long things take on a device. Called once for each, in order of time."""

    def load(self, device: int, model: int, now_s: float) -> Took:
        """A load of a model that begins now."""
        ...

    def prefetch(self, model: int, now_s: float) -> Took:
        """Reading a model into the host's memory."""
        ...

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        """A static batch that begins now."""
        ...


@dataclass(frozen=True, slots=True)
class MeanMachine:
    """Every load takes its model's mean, the first of a device ``first_load_s`` of its model; every
    batch, and what comes after it, a line in its size."""

    load_s: Sequence[float]
    first_load_s: Sequence[float]
    batches: Sequence[BatchTime]
    after: BatchTime
    seen: set[int]

    def load(self, device: int, model: int, now_s: float) -> Took:
        first = device not in self.seen
        self.seen.add(device)
        return Took(self.first_load_s[model] if first else self.load_s[model])

    def prefetch(self, model: int, now_s: float) -> Took:
        return Took(0.0)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        num = len(batch.requests)
        return Took(self.batches[batch.model].seconds(num), after_s=self.after.seconds(num))
