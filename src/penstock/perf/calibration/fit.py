"""Fit of iteration-time parameters to mean latencies at several operating points.

The errors are ln(predicted / observed) of TTFT and ITL in standard deviations, with a soft-L1 loss
(``perf.robust``). Unknown are the logarithms of the parameters over the prior's: a common part and
one part each. So all proposals are positive, a drift of the whole engine is one unknown, and a
direction that no observation tells stays at the prior, with the prior's uncertainty.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.perf.calibration.values import (
    Calibrated,
    CalibrationSettings,
    LatencyModel,
    Prior,
    ServedPoint,
    Triple,
)
from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import IterationTimes
from penstock.perf.robust import fit_soft_l1

_MOST_ERROR = 6.0  # of a logarithm; beyond it, a model's answer tells no direction
_STEP = 1e-3
_STARTS = (0.0, -1.0, 1.0, -2.0, 2.0)
_ENOUGH = 1e-7
_TO_LOGS = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]])
"""Matrix from effects (the common part, one part each) to logarithms of the three parameters."""


def fit(points: Sequence[ServedPoint], prior: Prior, model: LatencyModel,
        settings: CalibrationSettings) -> Calibrated:
    """Return parameters for usable ``points``; without any, those of the prior.

    The search starts at several common factors, so a prior that takes the engine for overloaded
    is left.
    """
    problem = _Problem(points, prior, model, np.tile(settings.spreads, len(points)))
    deviation = np.array([prior.common_sd, *prior.each_sd])
    if not points:
        return _result(prior, np.zeros(4), np.zeros((4, 4)), 1.0, 0)
    starts = np.zeros((len(_STARTS), 4))
    starts[:, 0] = _STARTS
    losses = (np.sqrt(1.0 + problem.errors_at(starts)**2).sum(axis=1)
              + 0.5 * ((starts / deviation)**2).sum(axis=1))
    found = fit_soft_l1(starts[int(losses.argmin())], deviation,
                        lambda effects: problem.errors_at(effects[None, :])[0],
                        problem.errors_and_slopes, _ENOUGH)
    errors = problem.errors_at(found.effects[None, :])[0]
    # The median is not led astray by a few bad points; 1.4826 makes it a standard deviation.
    noise = max(1.0, 1.4826 * float(np.median(np.abs(errors))))
    told = found.information - np.diag(deviation**-2.0)
    return _result(prior, found.effects, told, noise, len(points))


@dataclass(frozen=True, slots=True)
class Surprise:
    """Observed over predicted TTFT and ITL of one point: logarithms in standard deviations of what
    observations and parameters leave open."""

    ttft: float
    itl: float


def surprise(point: ServedPoint, known: Calibrated, model: LatencyModel,
             settings: CalibrationSettings) -> Surprise:
    """Return how far a new point is from the prediction of an estimate."""
    problem = _Problem([point], Prior(known.times), model, np.ones(2))
    errors, slopes = problem.linearised(np.zeros(4))
    # Slopes in the three logarithms themselves; the common part is their sum.
    open_variance = np.diag(slopes[:, 1:] @ np.array(known.covariance) @ slopes[:, 1:].T)
    sd = np.sqrt((known.noise * np.array(settings.spreads))**2 + open_variance)
    ttft, itl = (-errors / sd).tolist()
    return Surprise(ttft, itl)


class _Problem:
    """Errors of points at effects, and their slopes."""

    def __init__(self, points: Sequence[ServedPoint], prior: Prior, model: LatencyModel,
                 spreads: Array) -> None:
        self._points = points
        self._prior = prior
        self._model = model
        self._spreads = spreads
        self._observed = np.array([(point.ttft_ms, point.itl_ms) for point in points]).ravel()

    def errors_at(self, effects: Array) -> Array:
        """Return errors in standard deviations, a row for each row of effects."""
        states = [_times(self._prior, row) for row in effects]
        predicted = self._model(self._points, states).reshape(len(states), -1)
        with np.errstate(all="ignore"):
            logs = np.log(predicted / self._observed)
        logs = np.nan_to_num(logs, nan=_MOST_ERROR, posinf=_MOST_ERROR, neginf=-_MOST_ERROR)
        bounded: Array = np.clip(logs, -_MOST_ERROR, _MOST_ERROR) / self._spreads
        return bounded

    def linearised(self, effects: Array) -> tuple[Array, Array]:
        """Return the errors and their slopes in the effects, by central differences."""
        steps = np.zeros((6, 4))
        steps[:3, 1:], steps[3:, 1:] = np.eye(3) * _STEP, np.eye(3) * -_STEP
        found = self.errors_at(np.concatenate([effects[None, :], effects + steps]))
        each = (found[1:4] - found[4:]).T / (2.0 * _STEP)
        return found[0], each @ _TO_LOGS

    def errors_and_slopes(self, effects: Array) -> tuple[Array, object]:
        """Return the errors and their slopes as a sparse matrix."""
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

        errors, slopes = self.linearised(effects)
        return errors, csr_matrix(slopes)


def _times(prior: Prior, effects: Array) -> IterationTimes:
    alpha, beta, gamma = (np.array(prior.state) * np.exp(_TO_LOGS @ effects)).tolist()
    return IterationTimes(alpha, beta, gamma, prior.times.max_step_tokens)


def _result(prior: Prior, effects: Array, told: Array, noise: float,
            num_points: int) -> Calibrated:
    """Return the estimate for the information of the observations. Their noise takes from it, not
    from the prior's."""
    deviation = np.array([prior.common_sd, *prior.each_sd])
    information = told / noise**2 + np.diag(deviation**-2.0)
    covariance = _TO_LOGS @ np.linalg.inv(information) @ _TO_LOGS.T
    first, second, third = (_triple(row) for row in covariance)
    return Calibrated(_times(prior, effects), (first, second, third), noise, num_points)


def _triple(values: Array) -> Triple:
    alpha, beta, gamma = values.tolist()
    return alpha, beta, gamma
