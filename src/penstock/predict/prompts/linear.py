"""Quality as a linear function of the vector: ridge regression."""

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
    """Least squares with ``penalty`` times the squared weights; the intercept is free.

    Each model is fitted on the rows that have its quality. Where all rows have all, a difference
    between two models is fitted just as well as if it were the target itself.
    """
    weights = np.zeros((vectors.shape[1], quality.shape[1]))
    intercepts = np.full(quality.shape[1], 0.5)
    for model in range(quality.shape[1]):
        known = ~np.isnan(quality[:, model])
        if not known.any():
            continue
        rows, target = vectors[known].astype(np.float64), quality[known, model]
        centre, mean = rows.mean(axis=0), target.mean()
        rows = rows - centre
        normal = rows.T @ rows + penalty * np.eye(rows.shape[1])
        weights[:, model] = np.linalg.solve(normal, rows.T @ (target - mean))
        intercepts[model] = mean - centre @ weights[:, model]
    return LinearQuality(weights, intercepts)
