"""Lengths of answers from rows: neighbours, a trend, and how much of each to believe."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.crossing import (
    NUM_FOLDS,
    NearRows,
    best_linear,
    candidates,
    mean_of,
    near_rows,
)
from penstock.predict.prompts.forecaster import HIGH_SHARE, mixed_lengths, typical_lengths
from penstock.predict.prompts.linear import LengthTrend, fit_linear, trend_factors
from penstock.predict.prompts.neighbours import Neighbours, NeighbourSettings
from penstock.predict.prompts.rows import Values

_STRENGTHS = (0.5, 2.0, 10.0)  # quality is mostly chance, length mostly is not
_SHARES = (0.0, 0.5, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class TrainedLengths:
    """How lengths are forecast, and held-out forecasts of every row, (rows, models).

    ``levelled`` are the rows' lengths without the trend, as found by models that had not seen them;
    ``means`` and ``highs`` (90 %) are before any conformal correction.
    """

    settings: NeighbourSettings
    trend: LengthTrend | None
    levelled: Values
    means: Values
    highs: Values


class _Choice(NamedTuple):
    loss: float
    share: float
    settings: NeighbourSettings


def train_lengths(vectors: Vectors, tokens: Values, folds: NDArray[np.intp],
                  far: float) -> TrainedLengths:
    """Neighbours, shrinkage and share of the trend with the least absolute error of the logarithm
    on held-out rows."""
    near = near_rows(vectors, tokens, folds)
    logs = np.log1p(tokens)
    penalty, held_out = best_linear(vectors, logs, folds, _absolute)
    centres = np.array([mean_of(column, 0.0) for column in logs.T])
    factors = {share: trend_factors(held_out, centres, share) for share in _SHARES}

    def loss(share: float, settings: NeighbourSettings) -> float:
        means = near.shrunk(tokens / factors[share], settings) * factors[share]
        return _absolute(np.log1p(np.maximum(means, 0.0)), logs)

    choices = [_Choice(loss(share, settings), share, settings) for share, settings in
               product(_SHARES, candidates(_STRENGTHS, far, len(tokens)))]
    best = min(choices, key=lambda choice: choice.loss)
    trend = LengthTrend(fit_linear(vectors, logs, penalty), centres, best.share) \
        if best.share else None
    levelled = tokens / factors[best.share]
    means, highs = _held_out(near, levelled, factors[best.share], best.settings)
    return TrainedLengths(best.settings, trend, levelled, means, highs)


def _absolute(predicted: Values, true: Values) -> float:
    errors = np.abs(predicted - true)
    return float(np.nanmean(errors)) if not np.isnan(errors).all() else 0.0


def _held_out(near: NearRows, levelled: Values, factors: Values,
              settings: NeighbourSettings) -> tuple[Values, Values]:
    """Mean and 90 % quantile of each row's distribution of lengths."""
    means, highs = np.full(levelled.shape, np.nan), np.full(levelled.shape, np.nan)
    weighed = near.weighed(levelled, settings)
    for fold, column in product(range(NUM_FOLDS), range(levelled.shape[1])):
        known = levelled[near.folds != fold, column]
        known = known[~np.isnan(known)]
        if not len(known):
            continue
        typical = typical_lengths(known)
        for place in np.flatnonzero(near.folds == fold):
            one = Neighbours(weighed.values[place, column], weighed.weights[place, column],
                             weighed.trust[place, column], weighed.evidence[place, column])
            lengths = mixed_lengths(one, typical, float(factors[place, column]))
            means[place, column] = lengths.mean_tokens
            highs[place, column] = lengths.quantile(HIGH_SHARE)
    return means, highs
