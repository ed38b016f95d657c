"""How much the prompts nearest to one say about it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.predict.prompts.rows import Values


@dataclass(frozen=True, slots=True)
class NeighbourSettings:
    """How neighbours are weighed.

    A neighbour at cosine c weighs ``1 / (1 - c + softening)``. ``strength`` is how many neighbours
    the model's mean is worth; neighbours count for less the nearer they are to ``far_cosine``, how
    alike any two prompts are, and for nothing below it.
    """

    num_neighbours: int = 100
    softening: float = 0.05
    strength: float = 10.0
    far_cosine: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Nearest rows of one model, for one prompt or for many.

    ``values`` and ``weights`` are (..., neighbours). ``trust`` (...) is the share of the neighbours
    against the model's mean, 0 to 1; ``evidence`` (...) the number of equally weighted neighbours
    that they are worth.
    """

    values: Values
    weights: Values
    trust: Values
    evidence: Values

    def shrunk(self, mean: float | Values) -> Values:
        """The neighbours' weighted means, drawn towards ``mean`` as far as they are not trusted."""
        totals = np.maximum(self.weights.sum(axis=-1), 1e-12)
        near = (self.values * self.weights).sum(axis=-1) / totals
        found: Values = self.trust * near + (1.0 - self.trust) * mean
        return found


def nearest(values: Values, cosines: NDArray[np.float32],
            num_neighbours: int) -> tuple[Values, NDArray[np.float32]]:
    """The values that are known (not NaN) at the largest cosines, with these; in no order."""
    lacking = np.isnan(values)
    if lacking.any():
        kept = np.flatnonzero(~lacking)
        values, cosines = values[kept], cosines[kept]
    if len(values) > num_neighbours:
        near = np.argpartition(-cosines, num_neighbours - 1)[:num_neighbours]
        values, cosines = values[near], cosines[near]
    return values, cosines


class Nearby:
    """The rows nearest to one prompt, found once for all columns.

    Columns lack values at different rows, so twice as many rows as asked for are kept; a column
    with too few among them is searched in full.
    """

    def __init__(self, values: Values, cosines: NDArray[np.float32], num_neighbours: int) -> None:
        self._all, self._all_cosines = values, cosines
        self._values, self._cosines = values, cosines
        if len(values) > 2 * num_neighbours:
            kept = np.argpartition(-cosines, 2 * num_neighbours)[:2 * num_neighbours]
            self._values, self._cosines = values[kept], cosines[kept]

    def of(self, column: int, settings: NeighbourSettings) -> Neighbours:
        """The neighbours that have this column, weighed."""
        count = settings.num_neighbours
        near = nearest(self._values[:, column], self._cosines, count)
        if len(near[0]) < count and len(self._values) < len(self._all):
            near = nearest(self._all[:, column], self._all_cosines, count)
        return weigh(*near, settings)


def weigh(values: Values, cosines: NDArray[np.float32],
          settings: NeighbourSettings) -> Neighbours:
    """Weights of neighbours (..., neighbours), and how far they are to be trusted.

    Trust is that of a mean of ``evidence`` observations against a prior worth ``strength`` of them;
    evidence is Kish's effective number times how near the neighbours are on average. A cosine of
    ``-inf`` marks a place without a neighbour.
    """
    alike = np.clip(cosines.astype(np.float64), -1.0, 1.0)
    weights = np.where(np.isneginf(cosines), 0.0, 1.0 / (1.0 - alike + settings.softening))
    totals = np.maximum(weights.sum(axis=-1), 1e-12)
    effective = totals**2 / np.maximum((weights**2).sum(axis=-1), 1e-12)
    span = max(1.0 - settings.far_cosine, 1e-9)
    near = ((weights * alike).sum(axis=-1) / totals - settings.far_cosine) / span
    evidence = effective * np.clip(near, 0.0, 1.0)
    trust = evidence / np.maximum(evidence + settings.strength, 1e-12)
    return Neighbours(values, weights, trust, evidence)
