"""A forecaster from rows: settings by cross-validation, uncertainty from held-out errors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.errors import nearest as nearest_name
from penstock.predict.embed.protocol import Embedder, Vectors
from penstock.predict.prompts.cells import cells, spread_scale
from penstock.predict.prompts.forecaster import (
    HIGH_SHARE,
    ForecastSettings,
    Prior,
    PromptForecaster,
    blend,
    mixed_lengths,
    quality_spread,
    typical_lengths,
)
from penstock.predict.prompts.linear import fit_linear, fit_penalties
from penstock.predict.prompts.neighbours import Neighbours, NeighbourSettings, nearest, weigh
from penstock.predict.prompts.rows import PromptRows, Values

FORMS = ("auto", "knn", "ridge", "knn+ridge")
_NUM_FOLDS = 5
_MIN_ROWS = 20
_COUNTS = (10, 25, 50, 100, 200)
_QUALITY_STRENGTHS = (3.0, 10.0, 30.0)  # quality is mostly chance, length mostly is not
_LENGTH_STRENGTHS = (0.5, 2.0, 10.0)
_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0)
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Forecasts of every row by a forecaster that had not seen the row's fold; (rows, models)."""

    vectors: Vectors
    quality: Values
    quality_sd: Values
    length_means: Values
    length_highs: Values
    folds: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A forecaster, the held-out forecasts that its settings rest on, and those settings."""

    forecaster: PromptForecaster
    held_out: HeldOut
    penalty: float
    losses: Mapping[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Near:
    """Of each row, its nearest rows outside its fold: values and cosines (rows, columns, k), the
    nearest first; and the means of each column outside the row's fold (rows, columns)."""

    values: Values
    cosines: NDArray[np.float32]
    means: Values

    def weighed(self, columns: slice, settings: NeighbourSettings) -> Neighbours:
        count = settings.num_neighbours
        return weigh(self.values[:, columns, :count], self.cosines[:, columns, :count], settings)


def train_forecaster(rows: PromptRows, embedder: Embedder, rng: np.random.Generator,
                     form: str = "auto", capacity: int = 20_000,
                     vectors: Vectors | None = None) -> Trained:
    """Fit a forecaster with the ``form`` asked for, or the one best on held-out rows.

    Number of neighbours, shrinkage, the linear model's penalty and its share are those with the
    least squared error of the differences in quality between models, which is what a choice of
    model rests on (of quality itself where there is one model). ``vectors`` are the embedder's of
    the rows, where they are at hand. Raises InputError for an unknown form, and for fewer than 20
    rows.
    """
    if form not in FORMS:
        raise InputError(f"form {form!r} is unknown{nearest_name(form, FORMS)}")
    if len(rows) < _MIN_ROWS:
        raise InputError(f"{len(rows)} prompts; expected at least {_MIN_ROWS} to train on")
    if vectors is None:
        vectors = embedder.embed(rows.prompts)
    folds = np.arange(len(rows)) % _NUM_FOLDS
    rng.shuffle(folds)
    num_models = len(rows.models)
    near = _near_rows(vectors, np.hstack([rows.output_tokens, rows.quality]), folds)
    lengths, qualities = slice(0, num_models), slice(num_models, None)
    far = float(np.square(vectors.mean(axis=0, dtype=np.float64)).sum())

    by_length = _best_lengths(near, lengths, rows.output_tokens, far)
    by_quality, shrunk = _best_quality(near, qualities, rows.quality, far)
    penalty, linear = _best_linear(vectors, rows.quality, folds)
    shares = {"knn": (0.0,), "ridge": (1.0,), "knn+ridge": _SHARES[1:-1], "auto": _SHARES}[form]
    share = min(shares, key=lambda s: _loss(blend(shrunk, linear, s), rows.quality))
    losses = {name: _loss(blend(shrunk, linear, s), rows.quality)
              for name, s in (("knn", 0.0), ("ridge", 1.0), ("chosen", share))}

    settings = ForecastSettings(by_quality, by_length, share, capacity=capacity)
    evidence = near.weighed(qualities, by_quality).evidence
    quality = blend(shrunk, linear, share)
    settings = replace(settings, sd_scale=_sd_scale(vectors, rows.quality, quality, evidence,
                                                    settings))
    means, highs = _held_out_lengths(near.weighed(lengths, by_length), rows.output_tokens, folds)
    held_out = HeldOut(vectors, quality, quality_spread(quality, evidence, settings), means, highs,
                       folds)
    return Trained(_forecaster(rows, embedder, settings, penalty, held_out), held_out, penalty,
                   losses)


def _forecaster(rows: PromptRows, embedder: Embedder, settings: ForecastSettings, penalty: float,
                held_out: HeldOut) -> PromptForecaster:
    """On all rows, with conformal factors from the held-out forecasts."""
    priors = {model: Prior(_mean(rows.output_tokens[:, place], Prior().output_tokens),
                           _mean(rows.quality[:, place], Prior().quality))
              for place, model in enumerate(rows.models)}
    linear = fit_linear(held_out.vectors, rows.quality, penalty) if settings.linear_share else None
    forecaster = PromptForecaster(embedder, priors, settings, linear)
    forecaster.fill(held_out.vectors, rows.output_tokens, rows.quality)
    for place, model in enumerate(rows.models):
        for tokens, high in zip(rows.output_tokens[:, place], held_out.length_highs[:, place],
                                strict=True):
            if not np.isnan(tokens):
                forecaster.high_factors[model].add(float(tokens), float(high))
    return forecaster


def _mean(values: Values, otherwise: float) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else otherwise


def _near_rows(vectors: Vectors, values: Values, folds: NDArray[np.intp]) -> _Near:
    count = min(max(_COUNTS), len(vectors))
    found = np.zeros((*values.shape, count))
    cosines = np.full((*values.shape, count), -np.inf, np.float32)
    means = np.zeros(values.shape)
    for fold in range(_NUM_FOLDS):
        inside, outside = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        seen = values[outside]
        means[inside] = [_mean(column, 0.5) for column in seen.T]
        columns = np.flatnonzero(~np.isnan(seen).all(axis=0))
        for chunk in np.array_split(inside, max(len(inside) // 512, 1)):
            alike = vectors[chunk] @ vectors[outside].T
            for (place, row), column in product(zip(chunk, alike, strict=True), columns):
                near, how = nearest(seen[:, column], row, count)
                order = np.argsort(-how, kind="stable")
                found[place, column, :len(near)] = near[order]
                cosines[place, column, :len(near)] = how[order]
    return _Near(found, cosines, means)


def _candidates(strengths: Iterable[float], far: float,
                num_rows: int) -> Iterable[NeighbourSettings]:
    for count, strength in product(_COUNTS, strengths):
        if count <= max(num_rows // 4, min(_COUNTS)):
            yield NeighbourSettings(count, strength=strength, far_cosine=far)


def _best_quality(near: _Near, columns: slice, quality: Values,
                  far: float) -> tuple[NeighbourSettings, Values]:
    def shrunk(settings: NeighbourSettings) -> Values:
        return near.weighed(columns, settings).shrunk(near.means[:, columns])

    best = min(_candidates(_QUALITY_STRENGTHS, far, len(quality)),
               key=lambda settings: _loss(shrunk(settings), quality))
    return best, shrunk(best)


def _best_lengths(near: _Near, columns: slice, tokens: Values, far: float) -> NeighbourSettings:
    def loss(settings: NeighbourSettings) -> float:
        means = near.weighed(columns, settings).shrunk(near.means[:, columns])
        errors = np.abs(np.log1p(np.maximum(means, 0.0)) - np.log1p(tokens))
        return float(np.nanmean(errors)) if not np.isnan(tokens).all() else 0.0

    return min(_candidates(_LENGTH_STRENGTHS, far, len(tokens)), key=loss)


def _best_linear(vectors: Vectors, quality: Values,
                 folds: NDArray[np.intp]) -> tuple[float, Values]:
    found = {penalty: np.zeros(quality.shape) for penalty in _PENALTIES}
    for fold in range(_NUM_FOLDS):
        inside = folds == fold
        models = fit_penalties(vectors[~inside], quality[~inside], _PENALTIES)
        for predicted, model in zip(found.values(), models, strict=True):
            predicted[inside] = model.predict(vectors[inside])
    best = min(found, key=lambda penalty: _loss(found[penalty], quality))
    return best, found[best]


def _loss(predicted: Values, quality: Values) -> float:
    """Mean squared error of the differences between models, or of the only model's quality."""
    if quality.shape[1] > 1:
        predicted = predicted - predicted.mean(axis=1, keepdims=True)
        quality = quality - quality.mean(axis=1, keepdims=True)
    squared = np.square(predicted - quality)
    return float(np.nanmean(squared)) if not np.isnan(squared).all() else 0.0


def _sd_scale(vectors: Vectors, quality: Values, predicted: Values, evidence: Values,
              settings: ForecastSettings) -> float:
    spreads = quality_spread(predicted, evidence, settings)
    groups = cells(vectors)
    # Models share one scale; the widest keeps every model's interval wide enough.
    return max((spread_scale(quality[:, place] - predicted[:, place], spreads[:, place], groups)
                for place in range(quality.shape[1])
                if not np.isnan(quality[:, place]).all()), default=1.0)


def _held_out_lengths(near: Neighbours, tokens: Values,
                      folds: NDArray[np.intp]) -> tuple[Values, Values]:
    """Mean and 90 % quantile of each row's distribution of lengths, before any correction."""
    means, highs = np.full(tokens.shape, np.nan), np.full(tokens.shape, np.nan)
    for fold, column in product(range(_NUM_FOLDS), range(tokens.shape[1])):
        known = tokens[folds != fold, column]
        known = known[~np.isnan(known)]
        if not len(known):
            continue
        typical = typical_lengths(known)
        for place in np.flatnonzero(folds == fold):
            lengths = mixed_lengths(_one(near, (int(place), column)), typical)
            means[place, column] = lengths.mean_tokens
            highs[place, column] = lengths.quantile(HIGH_SHARE)
    return means, highs


def _one(near: Neighbours, place: tuple[int, int]) -> Neighbours:
    return Neighbours(near.values[place], near.weights[place], near.trust[place],
                      near.evidence[place])


