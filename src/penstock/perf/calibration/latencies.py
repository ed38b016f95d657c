"""Mean latencies of replicas by the analytic chain of ``perf.queueing``."""

from collections.abc import Sequence

import numpy as np

from penstock.perf.calibration.values import ServedPoint
from penstock.perf.queueing.analysis import analyze
from penstock.perf.queueing.batch import Array, stack
from penstock.perf.queueing.build import from_spec
from penstock.perf.queueing.parameters import IterationTimes


def chain_latencies(points: Sequence[ServedPoint], times: Sequence[IterationTimes]) -> Array:
    """Return mean TTFT and ITL in ms, shape (times, points, 2); infinite where overloaded.

    The chain's queue is open: ``max_queue`` is not read.
    """
    batch = stack([from_spec(point.queue(each), variability=point.variability)
                   for each in times for point in points])
    found = analyze(batch, np.array([point.rate_per_s for _ in times for point in points]), (50.0,))
    latencies = 1000.0 * np.stack([found.ttft_s, found.itl_s], axis=1)
    return latencies.reshape(len(times), len(points), 2)
