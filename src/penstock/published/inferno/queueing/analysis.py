"""The published analysis of one replica and its sizing by mean targets, traps included.

This is the behaviour of llm-inferno's queue analyser in both generations, kept so that its
results can be reproduced. What is wrong with it, and what Penstock's own mode does instead, is in
docs/reference/queueing.md. Rates are requests per second, times ms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError
from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import DecodePrefillTimes, QueueSpec
from penstock.published.inferno.queueing.chain import FiniteChain
from penstock.published.inferno.queueing.rates import Floats, Precision, service_times

SMALLEST_SHARE = 0.001  # of the rate of one request alone: where a search begins
STABLE_SHARE = 0.999  # of the rate of a full batch: where it ends


@dataclass(frozen=True, slots=True)
class Metrics:
    """Means of a batch of replicas at given rates; every field has shape (B,)."""

    offered_per_s: Array
    throughput_per_s: Array
    response_ms: Array
    wait_ms: Array
    in_service: Array
    prefill_ms: Array
    itl_ms: Array
    ttft_ms: Array
    utilisation: Array
    max_rate_per_s: Array

    def row(self, index: int) -> "MeanMetrics":
        """One replica's means as plain numbers."""
        return MeanMetrics(*(float(getattr(self, name)[index]) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class MeanMetrics:
    """Means of one replica at one rate; fields as in Metrics."""

    offered_per_s: float
    throughput_per_s: float
    response_ms: float
    wait_ms: float
    in_service: float
    prefill_ms: float
    itl_ms: float
    ttft_ms: float
    utilisation: float
    max_rate_per_s: float


class InfernoQueues:
    """A batch of queues of one generation with the published rules. Raises InputError on none.

    ``precision`` is that of the means: 32 bits as published, 64 where slopes are wanted.
    """

    def __init__(self, queues: Sequence[QueueSpec], precision: Precision = np.float32) -> None:
        kinds = {type(queue.times) for queue in queues}
        if len(kinds) != 1:
            raise InputError(f"queues: found {len(kinds)} kinds of step times; expected one")
        self.queues = tuple(queues)
        slots = np.array([queue.max_batch for queue in queues], dtype=float)
        room = np.array([queue.max_queue for queue in queues], dtype=float)
        self._precision = precision
        self.slots: Floats = slots.astype(precision)
        self.times = service_times(queues, precision)
        numbers = np.arange(1.0, float(slots.max()) + 1.0, dtype=precision)[None, :]
        rates = self.times.rates(np.minimum(numbers, self.slots[:, None]))
        self.chain = FiniteChain(rates.astype(float), slots, room)
        self._last = (slots + room).astype(np.intp)[:, None]
        # The published program keeps its range per second and searches per ms, in 32-bit floats.
        second = np.float32(1000.0)
        self.min_rate_per_ms = np.float32(SMALLEST_SHARE) * rates[:, 0] * second / second
        self.max_rate_per_ms = np.float32(STABLE_SHARE) * rates[:, -1] * second / second

    @property
    def min_rate_per_s(self) -> Array:
        """Lowest rate that sizing tries, shape (B,)."""
        return self.min_rate_per_ms.astype(float) * 1000.0

    @property
    def max_rate_per_s(self) -> Array:
        """The published limit of stability: a share of the rate of a full batch, shape (B,)."""
        return self.max_rate_per_ms.astype(float) * 1000.0

    @property
    def solvable(self) -> "npt.NDArray[np.bool_]":
        """Whether the published chain takes the queue at all, shape (B,).

        It refuses one with room for a single request, served or waiting: its load, 1 before the
        first solution, must be below the number of places (trap).
        """
        return np.asarray(self._last[:, 0] > 1)

    def metrics(self, rates_per_s: Array) -> Metrics:
        """Means at given positive rates of shape (B,), beyond the limit too.

        State probabilities are in 64-bit floats and means in 32, as published, unless the batch
        has another precision; so a wait is the difference of two rounded times, and 0 or some 1e-7
        of a long response may be noise.
        """
        rates: Floats = (rates_per_s / 1000.0).astype(self._precision)
        occupancy = self.chain.occupancy(rates.astype(float))
        in_system = occupancy.in_system.astype(self._precision)
        in_service = occupancy.in_service.astype(self._precision)
        lost = np.take_along_axis(occupancy.probabilities, self._last, axis=1)[:, 0]
        kept = np.asarray(1.0 - lost.astype(self._precision))
        throughput = rates * kept
        response_ms, service_ms = in_system / throughput, in_service / throughput
        wait_ms = np.maximum(np.float32(0.0), response_ms - service_ms)
        prefill_ms, itl_ms = self.times.latencies(in_service, service_ms, self.slots)
        ttft_ms = wait_ms + prefill_ms
        if self.times.ttft_has_decode:
            ttft_ms = ttft_ms + itl_ms
        load = np.clip(in_service / self.slots, np.float32(0.0), np.float32(1.0))
        return Metrics(rates_per_s, _double(throughput * np.float32(1000.0)), _double(response_ms),
                       _double(wait_ms), _double(in_service), _double(prefill_ms), _double(itl_ms),
                       _double(ttft_ms), _double(load), self.max_rate_per_s)


def _double(values: Floats) -> Array:
    return values.astype(float)


def analyze(queue: QueueSpec, rate_per_s: float) -> MeanMetrics:
    """Means of one queue. Raises InputError for a rate that is not positive or absurdly high.

    The first generation refuses a rate above its limit of stability; the second has no such
    guard, and shows overload as throughput below the offered rate.
    """
    if not np.float32(rate_per_s / 1000.0) > 0.0 or rate_per_s == float("inf"):
        raise InputError(f"rate: found {rate_per_s:g}; expected a positive number per second")
    model = InfernoQueues([queue])
    limit = float(model.max_rate_per_s[0])
    # Half a unit of 32-bit precision: the limit as printed must pass.
    if isinstance(queue.times, DecodePrefillTimes) and rate_per_s > limit * (1.0 + 1e-6):
        raise InputError(f"rate: found {rate_per_s:g} per second; at most {limit:g} is stable")
    with np.errstate(divide="ignore", invalid="ignore"):
        means = model.metrics(np.array([rate_per_s])).row(0)
    if not np.isfinite(means.response_ms):
        # Of so many arrivals the share that is kept is 0 to a 32-bit float.
        raise InputError(f"rate: found {rate_per_s:g} per second; too far above the limit of "
                         f"stability, {limit:g}")
    return means


@dataclass(frozen=True, slots=True)
class Sizing:
    """The highest rate at which mean targets hold, or why there is none.

    ``rate_per_s`` is the least of the three targets' rates; ``metrics`` are taken there, and
    ``metrics.throughput_per_s`` is the capacity that the published planner divides by.
    """

    rate_ttft_per_s: float
    rate_itl_per_s: float
    rate_tps_per_s: float
    max_rate_per_s: float
    metrics: MeanMetrics | None
    tokens_per_s: float
    error: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether the published program returns an answer."""
        return self.error is None

    @property
    def rate_per_s(self) -> float:
        """The rate to which all targets hold; 0 when there is none."""
        return self.metrics.offered_per_s if self.metrics else 0.0
