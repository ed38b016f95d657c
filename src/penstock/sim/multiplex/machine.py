"""True durations of the simulated devices, apart from a policy's beliefs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

import numpy as np

from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.values import Batch, BatchTime

_NOTHING = BatchTime(0.0, 0.0)


class Took(NamedTuple):
    """Duration in seconds, whether the action failed at its end, and for how long the device stays
    occupied after it (for example while answers are written)."""

    seconds: float
    failed: bool = False
    after_s: float = 0.0


class Machine(Protocol):
    """True durations of actions on a device. Called once for each action, in order of time."""

    def load(self, device: int, model: int, now_s: float) -> Took:
        """Return the duration of a load that begins now."""
        ...

    def prefetch(self, model: int, now_s: float) -> Took:
        """Return the duration of a prefetch to host memory that begins now."""
        ...

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        """Return the duration of a static batch that begins now."""
        ...


@dataclass(frozen=True, slots=True)
class BatchTruth:
    """Batch times of a model: a line, and a standard deviation that grows with the batch.

    Draws are never below ``least`` times the line.
    """

    line: BatchTime
    sd_per_request_s: float = 0.0
    least: float = 0.5


class Variation:
    """Random durations around means. ``load_sd`` is a share of a load. Both are normal, cut at 2.5
    standard deviations. ``exact`` has no randomness."""

    def __init__(self, rng: np.random.Generator | None, load_sd: float = 0.0) -> None:
        self._rng = rng
        self._load_sd = load_sd

    def load(self, seconds: float) -> float:
        """Draw the duration of a load with the mean ``seconds``."""
        if self._rng is None or not self._load_sd:
            return seconds
        return seconds * (1.0 + self._load_sd * self._normal())

    def batch(self, truth: BatchTruth, num_requests: int) -> float:
        """Draw the duration of a batch of this many requests."""
        seconds = truth.line.seconds(num_requests)
        if self._rng is None or not truth.sd_per_request_s:
            return seconds
        off_s = truth.sd_per_request_s * num_requests * self._normal()
        return max(truth.least * seconds, seconds + off_s)

    def _normal(self) -> float:
        assert self._rng is not None
        return min(2.5, max(-2.5, float(self._rng.standard_normal())))


class HostReads:
    """Loads and prefetches of the devices of one host. ``loads`` has their true durations, which
    are multiplied by ``share``."""

    def __init__(self, loads: LoadBelief, variation: Variation, share: float = 1.0) -> None:
        self._loads = loads
        self._variation = variation
        self._share = share
        self._reading: dict[int, float] = {}

    def load_s(self, device: int, model: int, now_s: float) -> float:
        """Return the duration of a load that begins now. It includes the rest of a prefetch of the
        model in progress."""
        rest_s = max(0.0, self._reading.pop(model, -inf) - now_s)
        seconds = rest_s + self._variation.load(self._share * self._loads.load_s(device, model))
        self._loads.loaded(device, model)
        return seconds

    def prefetch(self, model: int, now_s: float) -> Took:
        """Return the duration of a prefetch that begins now."""
        seconds = self._variation.load(self._loads.prefetch_s(model))
        self._reading = {one: until_s for one, until_s in self._reading.items() if until_s > now_s}
        self._reading[model] = now_s + seconds
        self._loads.prefetched(model)
        return Took(seconds)


class HostMachine:
    """Devices of one host. Load times depend on the host's memory and the loading model, batch
    times on their line. ``first_load_extra_s`` and ``first_batch_extra_s`` are added to a device's
    first load and batch; ``load_share`` scales all loads; ``after`` is for how long a device stays
    occupied after a batch."""

    def __init__(self, loads: LoadBelief, batches: Sequence[BatchTruth], variation: Variation, *,
                 after: BatchTime = _NOTHING, load_share: float = 1.0,
                 first_load_extra_s: float = 0.0, first_batch_extra_s: float = 0.0) -> None:
        self._reads = HostReads(loads, variation, load_share)
        self._batches = batches
        self._variation = variation
        self._after = after
        self._first_load_extra_s = first_load_extra_s
        self._first_batch_extra_s = first_batch_extra_s
        self._loaded: set[int] = set()
        self._ran: set[int] = set()

    def load(self, device: int, model: int, now_s: float) -> Took:
        seconds = self._reads.load_s(device, model, now_s)
        if device not in self._loaded:
            self._loaded.add(device)
            seconds += self._first_load_extra_s
        return Took(seconds)

    def prefetch(self, model: int, now_s: float) -> Took:
        return self._reads.prefetch(model, now_s)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        num = len(batch.requests)
        seconds = self._variation.batch(self._batches[batch.model], num)
        if device not in self._ran:
            self._ran.add(device)
            seconds = max(0.1, seconds + self._first_batch_extra_s)
        return Took(seconds, after_s=self._after.seconds(num))
