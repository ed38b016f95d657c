"""Sizing by mean targets as published: a search on the 32-bit grid with its codes."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import DecodePrefillTimes, QueueSpec
from penstock.published.inferno.queueing.analysis import InfernoQueues, MeanMetrics, Sizing
from penstock.published.inferno.values import Targets

Single = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

THROUGHPUT_SHARE = 0.9  # of the limit: what a throughput target gets, whatever it asks for
_UNSOLVABLE = "a replica with room for one request and no queue: the published chain refuses it"
_MAX_STEPS = 100
_TOLERANCE = 1e-6
# Rows whose states together fit in a core's cache are searched at once: rows are padded to the
# longest of them, and longer arrays take four times as long.
_STATES_AT_ONCE = 1 << 16


def size(queues: Sequence[QueueSpec], targets: Sequence[Targets]) -> list[Sizing]:
    """Size every queue for its targets; both generations may be mixed, order is kept.

    An infeasible row carries its error and hinders no other.
    """
    found: dict[int, Sizing] = {}
    for kind in (True, False):
        rows = [index for index, queue in enumerate(queues)
                if isinstance(queue.times, DecodePrefillTimes) is kind]
        for part in _parts(queues, rows):
            sized = _size_alike([queues[row] for row in part], [targets[row] for row in part])
            found.update(zip(part, sized, strict=True))
    return [found[index] for index in range(len(queues))]


def size_one(queue: QueueSpec, targets: Targets) -> Sizing:
    """Size one queue."""
    return size([queue], [targets])[0]


def _parts(queues: Sequence[QueueSpec], rows: list[int]) -> list[list[int]]:
    """Rows of similar length together, few enough that their states fit in memory at once."""
    rows = sorted(rows, key=lambda row: (queues[row].max_batch + queues[row].max_queue, row))
    parts: list[list[int]] = []
    for row in rows:
        states = queues[row].max_batch + queues[row].max_queue + 1
        if not parts or (len(parts[-1]) + 1) * states > _STATES_AT_ONCE:
            parts.append([])
        parts[-1].append(row)
    return parts


def _size_alike(queues: Sequence[QueueSpec], targets: Sequence[Targets]) -> list[Sizing]:
    model = InfernoQueues(queues)
    ttft = _single([each.ttft_ms for each in targets])
    itl = _single([each.itl_ms for each in targets])
    tps = _single([each.tokens_per_s for each in targets])
    limit = model.max_rate_per_ms
    rate_ttft, low_ttft = _search(model, ttft, lambda rates: model.metrics(rates).ttft_ms)
    rate_itl, low_itl = _search(model, itl, lambda rates: model.metrics(rates).itl_ms)
    rate_tps = np.where(tps > 0.0, np.float32(THROUGHPUT_SHARE) * limit, limit)
    best = np.minimum(np.minimum(rate_ttft, rate_itl), rate_tps) * np.float32(1000.0)
    metrics = model.metrics(best.astype(float))
    rates = np.stack([rate_ttft, rate_itl, rate_tps, limit], axis=1) * np.float32(1000.0)
    errors = [_UNSOLVABLE if not solvable else _error("TTFT", first) if low_first else
              _error("ITL", inter) if low_inter else None
              for solvable, first, low_first, inter, low_inter in zip(
                  model.solvable, ttft, low_ttft, itl, low_itl, strict=True)]
    return [_sizing(queue, rates[index].astype(float), metrics.row(index), errors[index])
            for index, queue in enumerate(queues)]


def _single(values: Sequence[float | None]) -> Array:
    """Targets rounded to 32 bits; 0 where there is none."""
    return np.array([value or 0.0 for value in values], dtype=np.float32).astype(float)


def _error(name: str, target_ms: float) -> str:
    return f"{name} target of {target_ms:g} ms: below what any rate reaches"


def _sizing(queue: QueueSpec, rates: Array, metrics: MeanMetrics, error: str | None) -> Sizing:
    ttft, itl, tps, limit = rates.tolist()
    if error is not None:
        return Sizing(ttft, itl, tps, limit, None, 0.0, error)
    tokens = metrics.throughput_per_s * queue.size.output_tokens
    return Sizing(ttft, itl, tps, limit, metrics, tokens)


def _search(model: InfernoQueues, target: Array,
            latency: Callable[[Array], Array]) -> tuple[Single, Mask]:
    """The rate per ms at which a latency meets its target, and where the target is out of reach.

    Whether the latency rises or falls is read off the two ends, and a flat one counts as falling,
    so a target above it counts as out of reach and one below it as
    met by the highest rate (trap). Without a target the limit holds. The first generation's
    tolerance has a slip and never stops a search, so it ends at two neighbouring 32-bit numbers.
    """
    close = _close if model.times.ttft_has_decode else np.equal
    low, high = model.min_rate_per_ms.copy(), model.max_rate_per_ms.copy()
    at_low = latency(low.astype(float) * 1000.0)
    at_high = latency(high.astype(float) * 1000.0)
    wanted = target > 0.0
    rising = at_high > at_low
    answer = high.copy()
    done = ~wanted
    for end, value in ((low, at_low), (high, at_high)):
        met = ~done & close(value, target)
        answer = np.where(met, end, answer)
        done = done | met
    below = ~done & np.where(rising, target < at_low, target > at_low)
    above = ~done & ~below & np.where(rising, target > at_high, target < at_high)
    done = done | below | above
    for _ in range(_MAX_STEPS):
        if done.all():
            break
        middle = np.float32(0.5) * (low + high)
        value = latency(middle.astype(float) * 1000.0)
        answer = np.where(done, answer, middle)
        # Once the middle is an end of the interval, more steps would find the same two numbers.
        stuck = (middle == low) | (middle == high)
        done = done | close(value, target) | stuck
        beyond = np.where(rising, target < value, target > value)
        high = np.where(~done & beyond, middle, high)
        low = np.where(~done & ~beyond, middle, low)
    return answer.astype(np.float32), below


def _close(value: Array, target: Array) -> Mask:
    return np.abs(value - target) <= _TOLERANCE * np.abs(target)
