"""Quality as a linear function of the vector: ridge regression."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.rows import Values


@dataclass(frozen=True, slots=True, eq=False)
class LinearQuality:
    """``vectors @ weights + intercepts``; weights are (dimensions, models)."""

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    def predict(self, vectors: Vectors) -> Values:
        """Quality of each row's prompt on each model, not limited to 0 to 1."""
        found: Values = vectors.astype(np.float64) @ self.weights + self.intercepts
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
