"""The chain at given rates: means and percentiles of TTFT and ITL of many replicas at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.queueing.batch import Array, QueueBatch
from penstock.perf.queueing.first_token import first_token, slot_wait_s
from penstock.perf.queueing.mixture import GammaMixture
from penstock.perf.queueing.states import open_chain, representative_states
from penstock.perf.queueing.token_gaps import token_gaps

PERCENTILES = (50.0, 90.0, 95.0, 99.0)
# A load above this part of the capacity counts as overload: waits grow without end.
STABLE_LOAD = 0.9999
_CELLS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Analysis:
    """Replicas at given rates; fields have shape (B,), percentiles (B, P). Seconds, requests/s.

    An overloaded replica has a throughput of its capacity and infinite latencies. A replica that
    answers one token per request has no ITL: NaN.
    """

    rate_per_s: Array
    throughput_per_s: Array
    capacity_per_s: Array
    utilisation: Array  # rate over capacity; at most 1
    in_service: Array
    in_system: Array
    wait_s: Array  # for a slot
    wait_probability: Array
    ttft_s: Array
    itl_s: Array
    percentiles: tuple[float, ...]
    ttft_percentiles_s: Array
    itl_percentiles_s: Array


def analyze(batch: QueueBatch, rates_per_s: Array,
            percentiles: Sequence[float] = PERCENTILES) -> Analysis:
    """Analyse every replica at its own rate, (B,).

    Raises InputError for rates that are negative, infinite or NaN, and for percentiles outside
    0..100.
    """
    rates = np.broadcast_to(np.asarray(rates_per_s, dtype=float), (len(batch),)).copy()
    if not np.all(rates >= 0.0) or np.isinf(rates).any():
        raise InputError(f"rate: found {rates.min():g}; expected numbers of 0 or more")
    for percentile in percentiles:
        if not 0.0 < percentile < 100.0:
            raise InputError(f"percentile: found {percentile:g}; expected above 0 and below 100")
    parts = [_analyze(batch.take(rows), rates[rows], tuple(percentiles)) for rows in blocks(batch)]
    if len(parts) == 1:
        return parts[0]
    joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts])
              for field in fields(Analysis) if field.name != "percentiles"}
    return Analysis(**joined, percentiles=tuple(percentiles))


def blocks(batch: QueueBatch) -> list[Array]:
    """Row indices, split into runs of rows that fit in memory together."""
    size = max(1, _CELLS_AT_ONCE // max(1, batch.rate_per_s.shape[1] + 120))
    return [np.arange(first, min(first + size, len(batch)))
            for first in range(0, max(len(batch), 1), size)]


def latencies(batch: QueueBatch, rates: Array) -> tuple[GammaMixture, GammaMixture]:
    """Distributions of TTFT and ITL at positive rates below capacity, shape (B,)."""
    chain = open_chain(batch)
    states = representative_states(batch, chain.occupancy(rates), rates)
    return first_token(batch, states, chain.full_rate), token_gaps(batch, states)


def _analyze(batch: QueueBatch, rates: Array, percentiles: tuple[float, ...]) -> Analysis:
    capacity = batch.capacity_per_s
    stable = rates < capacity * STABLE_LOAD
    # A rate of 0 has the latencies of a lone request. Rows that are not stable are computed at half
    # their capacity and overwritten below.
    safe_capacity = np.where(capacity > 0.0, capacity, 1.0)
    safe = np.where(stable, np.maximum(rates, 1e-9 * safe_capacity), 0.5 * safe_capacity)
    rows = usable(batch)
    chain = open_chain(rows)
    occupancy = chain.occupancy(safe)
    full = occupancy.probabilities[np.arange(len(rates)), rows.stable_slots.astype(np.intp)]
    wait_s = full * slot_wait_s(rows, safe, chain.full_rate)
    ttft, itl = latencies(rows, safe)
    answers = rows.output_tokens > 1.0

    def if_stable(values: Array, otherwise: float = np.inf) -> Array:
        return np.where(stable if values.ndim == 1 else stable[:, None], values, otherwise)

    def gaps(values: Array) -> Array:
        has_gaps = answers if values.ndim == 1 else answers[:, None]
        return np.where(has_gaps, if_stable(values), np.nan)

    return Analysis(
        rates, np.where(stable, rates, capacity), capacity,
        np.where(stable, rates / safe_capacity, 1.0),
        np.where(stable, np.where(rates > 0.0, occupancy.in_service, 0.0), rows.stable_slots),
        if_stable(np.where(rates > 0.0, occupancy.in_service + rates * wait_s, 0.0)),
        if_stable(wait_s), if_stable(full, 1.0), if_stable(ttft.average()), gaps(itl.average()),
        percentiles, if_stable(ttft.quantiles(percentiles)), gaps(itl.quantiles(percentiles)))


def usable(batch: QueueBatch) -> QueueBatch:
    """The batch with one slot in rows without any, so that formulas stay finite."""
    slots = np.maximum(batch.slots, 1.0)
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return QueueBatch(**{**values, "slots": slots})
