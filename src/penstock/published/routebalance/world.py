"""Prompts with what four models would answer: made up around published figures.

The system's scored prompts are not public with its code, so qualities and lengths are drawn. What
is drawn keeps to what is published: what an oracle would reach by choosing per prompt (0.582), the
highest quality that the system's own predictor reaches (0.419), and the percentiles of end-to-end
time from an audit, which give lengths once divided by the time per token. The tiers' own means are
set between the published extremes. The predictor is then a little worse than the published one at
naming the best model (31.6 % of prompts; 34.8 % there), which favours nobody who relies on it.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.definitions import FloatColumn
from penstock.workload.answers import Answers, Predictions
from penstock.workload.workload import Workload

MODELS = ("qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-72b")
MEAN_QUALITY = (0.36, 0.385, 0.395, 0.405)
ORACLE_QUALITY, PEAK_QUALITY, BEST_NAMED = 0.582, 0.419, 0.348
LENGTH_MU, LENGTH_SIGMA, MOST_TOKENS = 4.87, 0.89, 1024

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """How qualities vary: standard deviations of what is common to a prompt's answers and of what
    is each model's own, the correlation of the prediction with the latter, and of predicted with
    true log-lengths. ``common_known`` is how much of the common part is predicted."""

    common: float = 0.12
    own: float = 0.195
    known: float = 0.145
    common_known: float = 0.3
    length_known: float = 0.6
    length_own: float = 0.5


def with_answers(workload: Workload, seed: int, spread: Spread = Spread()) -> Workload:
    """The workload with answers of all four models and with predictions of them."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, 2606)))
    num = len(workload)
    quality, predicted, sd = _qualities(rng, num, spread)
    tokens, mean, high = _lengths(rng, num, spread)
    answers = Answers(MODELS, tokens, quality, Predictions(
        mean, high, predicted, sd, "synthetic nearest neighbours"))
    return replace(workload, output_tokens=tokens.max(axis=1), answers=answers,
                   max_tokens=np.full(num, MOST_TOKENS, dtype=np.int64))


def with_oracle(workload: Workload) -> Workload:
    """The same requests with predictions that are the truth: what no policy can know."""
    answers = workload.answers
    assert answers is not None
    tokens = answers.output_tokens.astype(np.float64)
    return replace(workload, answers=replace(answers, predictions=Predictions(
        tokens, tokens, answers.quality, np.zeros_like(answers.quality), "oracle")))


def _qualities(rng: np.random.Generator, num: int,
               spread: Spread) -> tuple[Matrix, Matrix, Matrix]:
    """(true quality, predicted quality, its standard deviation), one row per prompt."""
    shape = (num, len(MODELS))
    common_seen, common_rest = rng.standard_normal((2, num, 1))
    seen, rest = rng.standard_normal((2, *shape))
    k, c = spread.known, spread.common_known
    common = c * common_seen + np.sqrt(1.0 - c * c) * common_rest
    own = k * seen + np.sqrt(1.0 - k * k) * rest
    means = np.array(MEAN_QUALITY)
    raw = means + spread.common * common + spread.own * own
    expected = means + spread.common * c * common_seen + spread.own * k * seen
    quality = np.clip(raw, 0.0, 1.0)
    quality += means - quality.mean(axis=0)  # what clipping moved
    unsure = np.hypot(spread.common * np.sqrt(1.0 - c * c), spread.own * np.sqrt(1.0 - k * k))
    return np.clip(quality, 0.0, 1.0), np.clip(expected, 0.0, 1.0), np.full(shape, unsure)


def _lengths(rng: np.random.Generator, num: int,
             spread: Spread) -> tuple[NDArray[np.int64], Matrix, Matrix]:
    """(true output tokens, predicted mean, what nine of ten stay below)."""
    shape = (num, len(MODELS))
    k = spread.length_known
    seen = rng.standard_normal((num, 1))
    rest = (np.sqrt(1.0 - spread.length_own**2) * rng.standard_normal((num, 1))
            + spread.length_own * rng.standard_normal(shape))
    logs = LENGTH_MU + LENGTH_SIGMA * (k * seen + np.sqrt(1.0 - k * k) * rest)
    tokens = np.clip(np.rint(np.exp(logs)), 1, MOST_TOKENS).astype(np.int64)
    left = LENGTH_SIGMA * np.sqrt(1.0 - k * k)
    centre = LENGTH_MU + LENGTH_SIGMA * k * seen + np.zeros(shape)
    mean = np.minimum(np.exp(centre + 0.5 * left * left), MOST_TOKENS)
    return tokens, mean, np.minimum(np.exp(centre + 1.2816 * left), MOST_TOKENS)


def best_named(answers: Answers) -> float:
    """How often the highest predicted quality is that of the truly best model."""
    return float(np.mean(answers.predictions.quality.argmax(axis=1)
                         == answers.quality.argmax(axis=1)))


def oracle_quality(answers: Answers) -> float:
    """Mean quality of the best answer to every prompt."""
    return float(answers.quality.max(axis=1).mean())


def means(answers: Answers) -> FloatColumn:
    """Mean quality of each model."""
    return np.asarray(answers.quality.mean(axis=0))
