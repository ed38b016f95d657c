"""Points of a calibration: loads of the derived trajectory, and Inferno's analysis as the model."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from penstock.perf.calibration.values import LatencyModel, Prior, ServedPoint
from penstock.perf.queueing.parameters import IterationTimes, RequestSize
from penstock.published.inferno.queueing.analysis import InfernoQueues

TRUTH = IterationTimes(8.0, 0.033, 0.000333)
PRIOR = Prior(IterationTimes(5.0, 0.05, 5e-5))
LOADS = ((60, 256, 512), (180, 1024, 256), (120, 512, 1024))
"""Requests per minute, prompt and output tokens of ``derived_ekf_trajectory.json``."""


def inferno_latencies(points: Sequence[ServedPoint], times: Sequence[IterationTimes]) -> np.ndarray:
    """Return mean TTFT and ITL in ms, shape (times, points, 2)."""
    queues = [point.queue(each) for each in times for point in points]
    rates = np.array([point.rate_per_s for _ in times for point in points])
    with np.errstate(all="ignore"):
        means = InfernoQueues(queues, np.float64).metrics(rates)
    return np.stack([means.ttft_ms, means.itl_ms], axis=1).reshape(len(times), len(points), 2)


def lone_latencies(points: Sequence[ServedPoint], times: Sequence[IterationTimes]) -> np.ndarray:
    """Return TTFT and ITL of a request alone: a model that costs nothing."""
    found = [[(each.alpha_ms + (each.beta_ms + each.gamma_ms) * point.size.input_tokens,
               each.alpha_ms + each.beta_ms + each.gamma_ms * (
                   point.size.input_tokens + (point.size.output_tokens + 1.0) / 2.0))
              for point in points] for each in times]
    return np.array(found).reshape(len(times), len(points), 2)


def served(load: tuple[float, float, float], times: IterationTimes = TRUTH,
           model: LatencyModel = inferno_latencies, factors: Sequence[float] = (1.0, 1.0),
           max_batch: int = 256) -> ServedPoint:
    """Return a point at a load, with the model's latencies times factors."""
    rate_per_min, prompt, answer = load
    blank = ServedPoint(rate_per_min / 60.0, RequestSize(prompt, answer), max_batch, 1.0, 1.0, 128)
    ttft_ms, itl_ms = model([blank], [times])[0, 0].tolist()
    return replace(blank, ttft_ms=ttft_ms * factors[0], itl_ms=itl_ms * factors[1])
