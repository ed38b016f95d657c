"""Sizing by the chain: the highest rate at which percentile targets hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.perf.queueing.analysis import STABLE_LOAD, blocks, latencies, usable
from penstock.perf.queueing.batch import Array, QueueBatch, stack
from penstock.perf.queueing.mixture import GammaMixture
from penstock.perf.queueing.parameters import check_non_negative

# The limits of a rate, in the order in which they are tried.
MEMORY, TTFT, ITL, THROUGHPUT, CAPACITY = "memory", "ttft", "itl", "throughput", "capacity"

_LOWEST_SHARE = 1e-4  # of the capacity: a target missed at this rate counts as out of reach
_HALVINGS = 24
_JUST_ABOVE = 1e-3

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PercentileTargets:
    """Targets of a sizing; ``None`` is no target. Times in seconds.

    ``percentile`` % of the requests must have a TTFT, and ``percentile`` % of the gaps between
    tokens an ITL, of at most the targets; with ``None`` the targets bind the means. The replica
    must deliver ``tokens_per_s`` within these targets.
    """

    ttft_s: float | None = None
    itl_s: float | None = None
    tokens_per_s: float | None = None
    percentile: float | None = 99.0

    def __post_init__(self) -> None:
        check_non_negative(self)
        if self.percentile is not None and not 0.0 < self.percentile < 100.0:
            raise InputError(f"percentile: found {self.percentile:g}; expected above 0 and below "
                             "100")


@dataclass(frozen=True, slots=True)
class Sizing:
    """Highest rates per replica, shape (B,), and the limit of each.

    ``binding`` is one of memory (not one request fits), ttft, itl, throughput (the rate within the
    other limits delivers too few tokens) and capacity (stability). Infeasible rows have rate 0.
    """

    rate_per_s: Array
    binding: tuple[str, ...]
    feasible: Mask
    capacity_per_s: Array


def size(batch: QueueBatch, targets: PercentileTargets | Sequence[PercentileTargets], *,
         max_utilisation: float = 0.999) -> Sizing:
    """Size every replica, with the same targets for all or targets for each.

    The rate found meets every target by the model. A looser target never lowers the rate: bisection
    goes up wherever the looser target holds. No rate exceeds ``max_utilisation`` of the capacity,
    which keeps the queue stable.
    """
    if not 0.0 < max_utilisation < STABLE_LOAD:
        raise InputError(f"max_utilisation: found {max_utilisation:g}; expected above 0 and below "
                         f"{STABLE_LOAD}")
    wanted = [targets] * len(batch) if isinstance(targets, PercentileTargets) else list(targets)
    if len(wanted) != len(batch):
        raise InputError(f"targets: found {len(wanted)} for {len(batch)} queues")
    parts = [_size(batch.take(rows), _Limits.of([wanted[int(row)] for row in rows]),
                   max_utilisation) for rows in blocks(batch)]
    return Sizing(np.concatenate([part.rate_per_s for part in parts]),
                  tuple(name for part in parts for name in part.binding),
                  np.concatenate([part.feasible for part in parts]),
                  np.concatenate([part.capacity_per_s for part in parts]))


@dataclass(frozen=True, slots=True)
class Concurrency:
    """The fewest in service at which a replica sustains nearly the best rate within its targets."""

    slots: int
    sizing: Sizing
    tried: tuple[int, ...]
    rates_per_s: Array  # one for each number tried

    @property
    def feasible(self) -> bool:
        """Whether any number in service meets the targets."""
        return bool(self.sizing.feasible[0])


def best_concurrency(batch: QueueBatch, targets: PercentileTargets, *,
                     max_utilisation: float = 0.999, tolerated_loss: float = 0.01) -> Concurrency:
    """Return the fewest requests in service (1..slots) within ``tolerated_loss`` of the best rate.

    One call tries every number up to 64 and dozens above, so the shape of the curve cannot mislead
    the search. ``batch`` has one row.
    """
    if len(batch) != 1:
        raise InputError(f"best concurrency: found {len(batch)} queues; expected one")
    most = int(batch.slots[0])
    tried = np.unique(np.concatenate([
        np.arange(1, min(most, 64) + 1), np.round(np.geomspace(1, max(most, 1), 128))])).astype(int)
    tried = tried[tried <= max(most, 1)]
    rows = stack([batch.with_slots(np.array([float(number)])) for number in tried])
    sized = size(rows, targets, max_utilisation=max_utilisation)
    enough = sized.rate_per_s >= (1.0 - tolerated_loss) * sized.rate_per_s.max()
    chosen = int(np.flatnonzero(enough)[0])
    row = Sizing(sized.rate_per_s[[chosen]], (sized.binding[chosen],), sized.feasible[[chosen]],
                 sized.capacity_per_s[[chosen]])
    return Concurrency(int(tried[chosen]), row, tuple(tried.tolist()), sized.rate_per_s)


@dataclass(frozen=True, slots=True)
class _Limits:
    """Targets as columns of shape (B,); infinite where there is none."""

    ttft_s: Array
    itl_s: Array
    tokens_per_s: Array
    share: Array  # percentile / 100; NaN for means

    @classmethod
    def of(cls, targets: Sequence[PercentileTargets]) -> "_Limits":
        def column(name: str, absent: float) -> Array:
            values = [getattr(each, name) for each in targets]
            return np.array([absent if value is None else value for value in values], dtype=float)

        return cls(column("ttft_s", np.inf), column("itl_s", np.inf), column("tokens_per_s", 0.0),
                   column("percentile", np.nan) / 100.0)


def _size(batch: QueueBatch, limits: _Limits, max_utilisation: float) -> Sizing:
    capacity = batch.capacity_per_s
    rows = usable(batch)
    reference = np.where(capacity > 0.0, capacity, rows.capacity_per_s)
    top, low = max_utilisation * reference, _LOWEST_SHARE * max_utilisation * reference
    at_top = np.logical_and(*_met(rows, top, limits))
    ttft_low, itl_low = _met(rows, low, limits)
    possible = ttft_low & itl_low & (capacity > 0.0)
    low, high = np.where(at_top, top, low), top
    if not (at_top | ~possible).all():
        for _ in range(_HALVINGS):
            middle = (low + high) / 2.0
            met = np.logical_and(*_met(rows, middle, limits))
            low, high = np.where(met, middle, low), np.where(met, high, middle)
    rate = np.where(possible, low, 0.0)
    enough = rate * batch.output_tokens >= limits.tokens_per_s
    # The target that is missed first just above the rate is the binding one.
    above = np.where(possible, np.minimum(rate * (1.0 + _JUST_ABOVE), top), low)
    ttft_above, itl_above = _met(rows, above, limits)
    binding = np.select(
        [capacity <= 0.0, possible & ~enough, possible & at_top, ~ttft_above, ~itl_above],
        [MEMORY, THROUGHPUT, CAPACITY, TTFT, ITL], CAPACITY)
    feasible = possible & enough
    return Sizing(np.where(feasible, rate, 0.0), tuple(binding.tolist()), feasible, capacity)


def _met(batch: QueueBatch, rates: Array, limits: _Limits) -> tuple[Mask, Mask]:
    """Whether the TTFT and the ITL targets hold at rates of shape (B,)."""
    ttft, itl = latencies(batch, rates)
    ttft_met = np.isinf(limits.ttft_s) | _within(ttft, limits.ttft_s, limits.share)
    # One token per answer: no gap can be late.
    no_gaps = np.isinf(limits.itl_s) | (batch.output_tokens <= 1.0)
    return ttft_met, no_gaps | _within(itl, limits.itl_s, limits.share)


def _within(mixture: GammaMixture, limit_s: Array, share: Array) -> Mask:
    finite = np.where(np.isinf(limit_s), 0.0, limit_s)
    by_mean = np.isnan(share)
    found = np.zeros(len(limit_s), dtype=np.bool_)
    if by_mean.any():
        found = mixture.average() <= limit_s
    if by_mean.all():
        return found
    return np.where(by_mean, found, mixture.cdf(finite) >= share)
