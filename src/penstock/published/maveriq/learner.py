"""How MaverIQ learns its exponents (github.com/UT-SysML/MaverIQ, 067d7a1).

Adam with a rate of 0.1 that is halved after 20 epochs without progress, at most 1,000 epochs, done
after 100 without progress; the loss is the mean absolute relative error, and exponents stay at
1e-6 or above. That what stages add depends on alpha as well is left out of the gradient, as there.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.published.maveriq.fingerprints import Exponents

Floats = NDArray[np.float64]

FINGERPRINT_START = Exponents(0.05, 0.75, 0.5, 0.1)
FULL_MODEL_START = Exponents(0.05, 0.75, 0.5, 1.2)
_RATE, _PATIENCE, _EPOCHS, _STOP_AFTER, _LEAST = 0.1, 20, 1000, 100, 1e-6
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Point(NamedTuple):
    """A whole model's run, with what fingerprints say: its seconds on one accelerator, and what a
    second rank adds."""

    tensor: int
    pipeline: int
    alone_s: float
    rank_s: float
    latency_s: float


def learn_exponents(points: Sequence[Point], start: Exponents = FINGERPRINT_START) -> Exponents:
    """The exponents with the least loss that were passed on the way, for one precision."""
    tensor, pipeline, alone, rank, truth = np.array(points, dtype=np.float64).T
    values = np.array([start.alpha, start.beta, start.gamma, start.delta])
    best, best_loss, waited, since_halved, rate = values, np.inf, 0, 0, _RATE
    first, second = np.zeros(4), np.zeros(4)
    for epoch in range(1, _EPOCHS + 1):
        loss, gradient = _loss(values, tensor, pipeline, alone, rank, truth)
        if loss < best_loss - 1e-9:
            best, best_loss, waited, since_halved = values, loss, 0, 0
        else:
            waited, since_halved = waited + 1, since_halved + 1
        if waited >= _STOP_AFTER:
            break
        if since_halved > _PATIENCE:
            rate, since_halved = rate / 2.0, 0
        first = _BETA1 * first + (1.0 - _BETA1) * gradient
        second = _BETA2 * second + (1.0 - _BETA2) * gradient**2
        step = (first / (1.0 - _BETA1**epoch)) / (
            np.sqrt(second / (1.0 - _BETA2**epoch)) + _EPSILON)
        values = np.maximum(values - rate * step, _LEAST)
    return Exponents(*(float(value) for value in best))


def _loss(values: Floats, tensor: Floats, pipeline: Floats, alone: Floats, rank: Floats,
          truth: Floats) -> tuple[float, Floats]:
    """The mean absolute relative error and its gradient."""
    alpha, beta, gamma, delta = values
    base = alone / (tensor * pipeline**alpha)
    ranks = np.where(tensor > 1, rank * (tensor - 1.0)**beta / pipeline**gamma, 0.0)
    stages = np.where(pipeline > 1, np.maximum(0.0, alone * (1.0 - 2.0**-alpha))
                      * (pipeline - 1.0)**delta, 0.0)
    error = (base + ranks + stages) / truth - 1.0
    log_stages = np.log(pipeline)
    slopes = np.stack((-base * log_stages,
                       ranks * np.log(np.maximum(tensor - 1.0, 1.0)), -ranks * log_stages,
                       stages * np.log(np.maximum(pipeline - 1.0, 1.0))))
    return float(np.mean(np.abs(error))), np.mean(np.sign(error) * slopes / truth, axis=1)
