"""The tuner's observation function: mean latencies of a replica by Inferno's queue analysis."""

from collections.abc import Sequence

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import IterationTimes, QueueSpec, RequestSize
from penstock.published.inferno.queueing.analysis import InfernoQueues
from penstock.published.inferno.queueing.rates import OneChunkTimes, Precision
from penstock.published.inferno.tuner.values import OperatingPoint


def predicted(points: Sequence[OperatingPoint], states: Array,
              precision: Precision = np.float64) -> Array:
    """Return TTFT and ITL in ms of every state at every point, shape (states, points, 2).

    ``states`` has a row for each state. A row of two parameters has gamma 0 and no prompts, and
    the wait in the place of TTFT. All are 0 where the analysis refuses its input, as upstream.
    Upstream computes in 32-bit floats; 64 bits keep slopes of 1 % exact.
    """
    found = np.zeros((len(states), len(points), 2))
    rows: list[tuple[int, int]] = []
    queues: list[QueueSpec] = []
    for number, state in enumerate(states):
        if not (np.isfinite(state).all() and (state > 0.0).all()):
            continue
        for place, point in enumerate(points):
            try:
                queue = _queue(point, state)
            except InputError:
                continue
            if point.rate_per_min > 0.0:
                rows.append((number, place))
                queues.append(queue)
    if queues:
        rates = np.array([points[place].rate_per_min for _, place in rows]) / 60.0
        with np.errstate(all="ignore"):
            means = InfernoQueues(queues, precision).metrics(rates)
        first = means.ttft_ms if states.shape[1] > 2 else means.wait_ms
        latencies = np.stack([first, means.itl_ms], axis=1)
        latencies[~np.isfinite(latencies).all(axis=1)] = 0.0
        for (number, place), row in zip(rows, latencies, strict=True):
            found[number, place] = row
    return found


def _queue(point: OperatingPoint, state: Array) -> QueueSpec:
    alpha_ms, beta_ms = float(state[0]), float(state[1])
    with_prompts = len(state) > 2
    kind = OneChunkTimes if point.one_chunk else IterationTimes
    times = kind(alpha_ms, beta_ms, float(state[2]) if with_prompts else 0.0)
    size = RequestSize(point.input_tokens if with_prompts else 0.0, point.output_tokens)
    return QueueSpec(times, size, point.max_batch, point.max_queue)
