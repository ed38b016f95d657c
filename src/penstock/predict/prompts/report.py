"""How far off a trained forecaster is on rows that its parts have not seen."""

from dataclasses import dataclass

import numpy as np

from penstock.predict.prompts.cells import cells, spread_coverage
from penstock.predict.prompts.conformal import ConformalFactor
from penstock.predict.prompts.forecaster import HIGH_SHARE
from penstock.predict.prompts.rows import PromptRows, Values
from penstock.predict.prompts.training import Trained


@dataclass(frozen=True, slots=True)
class ModelReport:
    """Errors of one model's forecasts, and of always saying its mean.

    ``high_coverage`` is the share of answers below ``output_high_tokens`` with the correction
    learnt from other folds (90 % is right); ``sd_coverage`` the share of groups of like prompts
    whose mean error lies within the 90 % interval of ``quality_sd`` and chance.
    """

    model: str
    num_lengths: int
    length_mape: float
    length_mape_mean: float
    high_coverage: float
    num_judged: int
    mean_quality: float
    quality_rmse: float
    quality_rmse_mean: float
    sd_coverage: float


@dataclass(frozen=True, slots=True)
class ForecastReport:
    """Errors by model, and what choosing by the forecasts alone earns in quality.

    ``best_picked``, ``best_fixed`` and ``oracle`` are mean qualities over the prompts that were
    judged on every model; None where there are none or only one model.
    """

    source: str
    num_prompts: int
    num_neighbours: int
    strength: float
    linear_share: float
    penalty: float
    sd_scale: float
    models: tuple[ModelReport, ...]
    best_picked: float | None
    best_fixed: float | None
    oracle: float | None


def report_on(trained: Trained, rows: PromptRows) -> ForecastReport:
    """The report of a forecaster on the rows that it was trained on, each by its held-out fold."""
    settings = trained.forecaster.settings
    whole = ~np.isnan(rows.quality).any(axis=1)
    judged = rows.quality[whole]
    picked = fixed = best = None
    if len(judged) and len(rows.models) > 1:
        choice = trained.held_out.quality[whole].argmax(axis=1)
        picked = float(judged[np.arange(len(judged)), choice].mean())
        fixed, best = float(judged.mean(axis=0).max()), float(judged.max(axis=1).mean())
    return ForecastReport(
        trained.forecaster.source, len(rows), settings.quality.num_neighbours,
        settings.quality.strength, settings.linear_share, trained.penalty, settings.sd_scale,
        tuple(_of_model(trained, rows, place) for place in range(len(rows.models))),
        picked, fixed, best)


def _of_model(trained: Trained, rows: PromptRows, place: int) -> ModelReport:
    held = trained.held_out
    tokens, quality = rows.output_tokens[:, place], rows.quality[:, place]
    known, judged = ~np.isnan(tokens), ~np.isnan(quality)
    errors = quality - held.quality[:, place]
    nan = float("nan")
    return ModelReport(
        rows.models[place], int(known.sum()),
        _mape(held.length_means[known, place], tokens[known]),
        _mape(np.full(int(known.sum()), tokens[known].mean() if known.any() else nan),
              tokens[known]),
        _high_coverage(trained, tokens, place), int(judged.sum()),
        float(quality[judged].mean()) if judged.any() else nan,
        float(np.sqrt(np.square(errors[judged]).mean())) if judged.any() else nan,
        float(quality[judged].std()) if judged.any() else nan,
        spread_coverage(errors, held.quality_sd[:, place], cells(held.vectors)))


def _mape(predicted: Values, true: Values) -> float:
    usable = true > 0
    if not usable.any():
        return float("nan")
    return float((np.abs(predicted[usable] - true[usable]) / true[usable]).mean())


def _high_coverage(trained: Trained, tokens: Values, place: int) -> float:
    """Each fold's lengths against the quantile, corrected by the other folds' scores alone."""
    held = trained.held_out
    highs = held.length_highs[:, place]
    usable = ~np.isnan(tokens) & ~np.isnan(highs)
    covered = []
    for fold in np.unique(held.folds):
        factor = ConformalFactor(HIGH_SHARE)
        for value, high in zip(tokens[usable & (held.folds != fold)],
                               highs[usable & (held.folds != fold)], strict=True):
            factor.add(float(value), float(high))
        covered += [value <= factor.corrected(float(high))
                    for value, high in zip(tokens[usable & (held.folds == fold)],
                                           highs[usable & (held.folds == fold)], strict=True)]
    return float(np.mean(covered)) if covered else float("nan")
