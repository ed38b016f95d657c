"""Forecasts of rows by what is outside their fold, to settle on settings."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.linear import fit_penalties
from penstock.predict.prompts.neighbours import Neighbours, NeighbourSettings, nearest, weigh
from penstock.predict.prompts.rows import Values

NUM_FOLDS = 5
COUNTS = (10, 25, 50, 100, 200)
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True, slots=True, eq=False)
class NearRows:
    """Places and cosines of each row's nearest rows outside its fold that have the column, shape
    (rows, columns, k), the nearest first."""

    places: NDArray[np.intp]
    cosines: NDArray[np.float32]
    folds: NDArray[np.intp]

    def weighed(self, values: Values, settings: NeighbourSettings) -> Neighbours:
        """Return the neighbours' weighted means of ``values`` (rows, columns)."""
        count = settings.num_neighbours
        cosines = self.cosines[:, :, :count]
        columns = np.arange(values.shape[1])[None, :, None]
        found = np.where(np.isneginf(cosines), 0.0, values[self.places[:, :, :count], columns])
        return weigh(found, cosines, settings)

    def shrunk(self, values: Values, settings: NeighbourSettings) -> Values:
        """Their means, drawn towards those of all rows outside the fold."""
        means = np.zeros(values.shape)
        for fold in range(NUM_FOLDS):
            means[self.folds == fold] = [mean_of(column, 0.5)
                                         for column in values[self.folds != fold].T]
        return self.weighed(values, settings).shrunk(means)


def near_rows(vectors: Vectors, values: Values, folds: NDArray[np.intp]) -> NearRows:
    """The nearest rows of every row for each column of ``values``, which NaN says are lacking."""
    count = min(max(COUNTS), len(vectors))
    found = np.zeros((*values.shape, count), np.intp)
    cosines = np.full((*values.shape, count), -np.inf, np.float32)
    # The numbers of the rows that have the column, so that what is nearest are places.
    places = np.where(np.isnan(values), np.nan, np.arange(len(values))[:, None])
    for fold in range(NUM_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        seen = places[outside]
        columns = np.flatnonzero(~np.isnan(seen).all(axis=0))
        if not len(columns):
            continue
        for chunk in np.array_split(inside, max(len(inside) // 512, 1)):
            alike = vectors[chunk] @ vectors[outside].T
            for (place, row), column in product(zip(chunk, alike, strict=True), columns):
                near, how = nearest(seen[:, column], row, count)
                order = np.argsort(-how, kind="stable")
                found[place, column, :len(near)] = near[order]
                cosines[place, column, :len(near)] = how[order]
    return NearRows(found, cosines, folds)


def mean_of(values: Values, otherwise: float) -> float:
    """Mean of what is known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else otherwise


def candidates(strengths: Iterable[float], far: float,
                num_rows: int) -> Iterable[NeighbourSettings]:
    """Settings to choose among; none asks for more than a quarter of the rows."""
    for count, strength in product(COUNTS, strengths):
        if count <= max(num_rows // 4, min(COUNTS)):
            yield NeighbourSettings(count, strength=strength, far_cosine=far)


def best_linear(vectors: Vectors, quality: Values,
                 folds: NDArray[np.intp],
                loss: Callable[[Values, Values], float]) -> tuple[float, Values]:
    """The penalty with the least loss, and what it predicts of every row."""
    found = {penalty: np.zeros(quality.shape) for penalty in PENALTIES}
    for fold in range(NUM_FOLDS):
        inside = folds == fold
        models = fit_penalties(vectors[~inside], quality[~inside], PENALTIES)
        for predicted, model in zip(found.values(), models, strict=True):
            predicted[inside] = model.predict(vectors[inside])
    best = min(found, key=lambda penalty: loss(found[penalty], quality))
    return best, found[best]
