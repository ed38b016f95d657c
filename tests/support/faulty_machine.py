"""A machine on which things go wrong: loads that fail or hang, batches that run out of memory."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.errors import InputError
from penstock.policy.multiplex.values import Batch
from penstock.sim.multiplex.machine import Machine, Took


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults of simulated devices.

    ``failing`` are loads by their number from 0 on that fail, ``load_failure`` is the probability
    that any other does; ``hang`` is the probability that a load takes ``hang_s`` longer than it
    should. ``largest_batch`` has an entry per model: larger ones run out of memory, after
    ``failing_share`` of the time that they would have taken. ``load_share`` and ``batch_share``
    scale what loads and batches take, as when beliefs are off.
    """

    failing: Collection[int] = ()
    load_failure: float = 0.0
    hang: float = 0.0
    hang_s: float = 60.0
    largest_batch: Sequence[int] | None = None
    failing_share: float = 0.5
    load_share: float = 1.0
    batch_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("load_failure", "hang", "failing_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name} is {getattr(self, name)}, expected 0 to 1")
        for name in ("hang_s", "load_share", "batch_share"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise InputError(f"{name} is {getattr(self, name)}, expected a number from 0 on")


class FaultyMachine:
    """A machine with faults. Of ``rng`` two numbers are drawn for every load, whatever comes of
    them, so that another rate of one fault leaves the others where they were."""

    def __init__(self, machine: Machine, faults: Faults, rng: np.random.Generator) -> None:
        self._machine = machine
        self._faults = faults
        self._rng = rng
        self._num_loads = 0

    def load(self, device: int, model: int, now_s: float) -> Took:
        faults, number = self._faults, self._num_loads
        self._num_loads += 1
        took = self._machine.load(device, model, now_s)
        fails, hangs = self._rng.random(2)
        seconds = took.seconds * faults.load_share + (faults.hang_s if hangs < faults.hang else 0.0)
        failed = took.failed or number in faults.failing or bool(fails < faults.load_failure)
        return Took(seconds, failed, took.after_s)

    def prefetch(self, model: int, now_s: float) -> Took:
        return self._machine.prefetch(model, now_s)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        faults = self._faults
        took = self._machine.batch(device, batch, now_s)
        seconds = took.seconds * faults.batch_share
        most = faults.largest_batch
        if most is not None and len(batch.requests) > most[batch.model]:
            return Took(seconds * faults.failing_share, failed=True)
        return Took(seconds, took.failed, took.after_s)
