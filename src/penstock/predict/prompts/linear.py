"""Quality as a linear function of the vector: ridge regression."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.rows import Values

_MOST_LOG = log(8.0)  # no prompt that is unlike all others may stretch lengths beyond that


@dataclass(frozen=True, slots=True, eq=False)
class LinearQuality:
    """``vectors @ weights + intercepts``; weights are (dimensions, models)."""

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    def predict(self, vectors: Vectors) -> Values:
        """Quality of each row's prompt on each model, not limited to 0 to 1."""
        found: Values = vectors.astype(np.float64) @ self.weights + self.intercepts
        return found


@dataclass(frozen=True, slots=True, eq=False)
class LengthTrend:
    """How much longer than usual each model's answer is by the prompt's vector alone.

    ``logs`` predicts ``log(1 + output tokens)``, ``centres`` (models) are its means over the
    training rows; of what it says ``share`` is believed.
    """

    logs: LinearQuality
    centres: Values
    share: float

    def factors(self, vectors: Vectors) -> Values:
        """Length over usual length, (prompts, models), from 1/8 to 8."""
        return trend_factors(self.logs.predict(vectors), self.centres, self.share)


def trend_factors(logs: Values, centres: Values, share: float) -> Values:
    """The factors of predicted logarithms of length."""
    found: Values = np.exp(np.clip(share * (logs - centres), -_MOST_LOG, _MOST_LOG))
    return found


def fit_linear(vectors: Vectors, quality: Values, penalty: float) -> LinearQuality:
    """As ``fit_penalties`` with one penalty."""
    return fit_penalties(vectors, quality, [penalty])[0]


def fit_penalties(vectors: Vectors, quality: Values,
                  penalties: Sequence[float]) -> list[LinearQuality]:
    """Least squares with each penalty times the squared weights; the intercept is free.

    Each model is fitted on the rows that have its quality. Where all rows have all, a difference
    between two models is fitted just as well as if it were the target itself.
    """
    shape = (len(penalties), vectors.shape[1], quality.shape[1])
    weights, intercepts = np.zeros(shape), np.full((shape[0], shape[2]), 0.5)
    known = ~np.isnan(quality)
    # Models that were judged on the same rows share the costly part.
    for judged in np.unique(known.T, axis=0):
        models = np.flatnonzero((judged == known.T).all(axis=1))
        if not judged.any():
            continue
        rows, target = vectors[judged].astype(np.float64), quality[judged][:, models]
        centre, means = rows.mean(axis=0), target.mean(axis=0)
        rows -= centre
        # One decomposition serves every penalty.
        values, directions = np.linalg.eigh(rows.T @ rows)
        along = directions.T @ (rows.T @ (target - means))
        for place, penalty in enumerate(penalties):
            found = directions @ (along / (np.maximum(values, 0.0) + penalty)[:, None])
            weights[place][:, models] = found
            intercepts[place, models] = means - centre @ found
    return [LinearQuality(*each) for each in zip(weights, intercepts, strict=True)]
