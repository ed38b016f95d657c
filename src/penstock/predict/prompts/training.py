"""A forecaster from rows: settings by cross-validation, uncertainty from held-out errors."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.core.errors import nearest as nearest_name
from penstock.predict.embed.protocol import Embedder, Vectors
from penstock.predict.prompts.cells import cells, spread_scale
from penstock.predict.prompts.crossing import (
    NUM_FOLDS,
    best_linear,
    candidates,
    mean_of,
    near_rows,
)
from penstock.predict.prompts.forecaster import (
    ForecastSettings,
    Prior,
    PromptForecaster,
    blend,
    quality_spread,
)
from penstock.predict.prompts.length_training import TrainedLengths, train_lengths
from penstock.predict.prompts.linear import fit_linear
from penstock.predict.prompts.rows import PromptRows, Values

FORMS = ("auto", "knn", "ridge", "knn+ridge")
_MIN_ROWS = 20
_QUALITY_STRENGTHS = (3.0, 10.0, 30.0)  # quality is mostly chance, length mostly is not
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
    folds = np.arange(len(rows)) % NUM_FOLDS
    rng.shuffle(folds)
    far = float(np.square(vectors.mean(axis=0, dtype=np.float64)).sum())
    near = near_rows(vectors, rows.quality, folds)
    by_quality = min(candidates(_QUALITY_STRENGTHS, far, len(rows)),
                     key=lambda each: _loss(near.shrunk(rows.quality, each), rows.quality))
    shrunk = near.shrunk(rows.quality, by_quality)
    penalty, linear = best_linear(vectors, rows.quality, folds, _loss)
    lengths = train_lengths(vectors, rows.output_tokens, folds, far)
    shares = {"knn": (0.0,), "ridge": (1.0,), "knn+ridge": _SHARES[1:-1], "auto": _SHARES}[form]
    share = min(shares, key=lambda s: _loss(blend(shrunk, linear, s), rows.quality))
    losses = {name: _loss(blend(shrunk, linear, s), rows.quality)
              for name, s in (("knn", 0.0), ("ridge", 1.0), ("chosen", share))}

    settings = ForecastSettings(by_quality, lengths.settings, share, capacity=capacity)
    evidence = near.weighed(rows.quality, by_quality).evidence
    quality = blend(shrunk, linear, share)
    settings = replace(settings, sd_scale=_sd_scale(vectors, rows.quality, quality, evidence,
                                                    settings))
    held_out = HeldOut(vectors, quality, quality_spread(quality, evidence, settings),
                       lengths.means, lengths.highs, folds)
    return Trained(_forecaster(rows, embedder, settings, penalty, held_out, lengths), held_out,
                   penalty, losses)


def _forecaster(rows: PromptRows, embedder: Embedder, settings: ForecastSettings, penalty: float,
                held_out: HeldOut, lengths: TrainedLengths) -> PromptForecaster:
    """On all rows, with conformal factors from the held-out forecasts."""
    priors = {model: Prior(mean_of(rows.output_tokens[:, place], Prior().output_tokens),
                           mean_of(rows.quality[:, place], Prior().quality))
              for place, model in enumerate(rows.models)}
    linear = fit_linear(held_out.vectors, rows.quality, penalty) if settings.linear_share else None
    forecaster = PromptForecaster(embedder, priors, settings, linear, lengths.trend)
    forecaster.fill(held_out.vectors, lengths.levelled, rows.quality)
    for place, model in enumerate(rows.models):
        for tokens, high in zip(rows.output_tokens[:, place], held_out.length_highs[:, place],
                                strict=True):
            if not np.isnan(tokens):
                forecaster.high_factors[model].add(float(tokens), float(high))
    return forecaster


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
