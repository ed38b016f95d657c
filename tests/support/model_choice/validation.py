"""Contenders on rows that they have not learnt from, with intervals by resampling prompts."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Embedder
from support.model_choice.contenders import Contender, Lesson, Values
from support.model_choice.curve import gap_curve, recovered_at
from support.model_choice.rows import ChoiceRows

LEVELS = (0.5, 0.8, 0.95)
# Trains an embedder on prompts; the generator makes it repeatable.
Embedding = Callable[[tuple[str, ...], np.random.Generator], Embedder]


@dataclass(frozen=True, slots=True)
class Score:
    """APGR and the cost of each of ``LEVELS``, each with its 95 % interval (low, high).

    ``operating`` is, per level, what a threshold chosen on other rows came to: (share of calls to
    the strong model, part of the gap recovered).
    """

    name: str
    apgr: float
    apgr_interval: tuple[float, float]
    costs: tuple[float, ...]
    cost_intervals: tuple[tuple[float, float], ...]
    operating: tuple[tuple[float, float], ...]


def random_folds(rows: ChoiceRows, num_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Each row's fold, equal in number."""
    folds = np.arange(len(rows)) % num_folds
    rng.shuffle(folds)
    return folds


def subset_folds(rows: ChoiceRows, num_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Each row's fold, whole subsets together: what is asked is of a topic never seen."""
    subsets = rng.permutation(np.unique(rows.subsets))
    place = {subset: number % num_folds for number, subset in enumerate(subsets)}
    return np.array([place[subset] for subset in rows.subsets])


def held_out_scores(rows: ChoiceRows, folds: NDArray[np.intp], embedding: Embedding,
                    contenders: Mapping[str, Contender], seed: int,
                    on_done: Callable[[str], None] = lambda _: None) -> dict[str, Values]:
    """Each row's score by contenders that learnt from the other folds, as its rank in its fold.

    Embedders learn from the other folds' prompts, too. Ranks (0 to 1) make folds comparable.
    """
    found = {name: np.zeros(len(rows)) for name in contenders}
    for fold in np.unique(folds):
        outside, inside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        learnt, asked = rows.take(outside), rows.take(inside)
        embedder = embedding(learnt.prompts, np.random.default_rng((seed, int(fold))))
        vectors, asked_vectors = embedder.embed(learnt.prompts), embedder.embed(asked.prompts)
        rng = np.random.default_rng((seed, int(fold), 1))
        lesson = Lesson(learnt, vectors, asked, asked_vectors, embedder, rng)
        for name, contender in contenders.items():
            found[name][inside] = _ranks(contender(lesson))
            on_done(f"fold {fold}: {name}")
    return found


def _ranks(scores: Values) -> Values:
    """Mid-ranks from 0 to 1: equal scores stay equal."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    middles = ends - (counts - 1) / 2.0
    found: Values = (middles[places] - 0.5) / len(scores)
    return found


def judge(name: str, runs: Iterable[tuple[Values, NDArray[np.intp]]], rows: ChoiceRows,
          rng: np.random.Generator, num_resamples: int = 400) -> Score:
    """A contender's figures: means over runs (a run per seed: ranks, folds) and their intervals.

    A resample draws prompts with replacement, the same ones for all runs, so the interval is that
    of other prompts of this kind; runs differ by folds and by what contenders draw.
    """
    held = list(runs)
    points = np.array([_figures(ranks, rows.weak, rows.strong) for ranks, _ in held]).mean(axis=0)
    draws = np.array([
        np.mean([_figures(ranks[drawn], rows.weak[drawn], rows.strong[drawn])
                 for ranks, _ in held], axis=0)
        for drawn in rng.integers(0, len(rows), (num_resamples, len(rows)))])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    operating = np.array([[_operating(ranks, folds, rows, level) for level in LEVELS]
                          for ranks, folds in held]).mean(axis=0)
    return Score(name, float(points[0]), (float(low[0]), float(high[0])),
                 tuple(map(float, points[1:])),
                 tuple((float(a), float(b)) for a, b in zip(low[1:], high[1:], strict=True)),
                 tuple((float(share), float(gap)) for share, gap in operating))


def difference(ours: Iterable[Values], theirs: Iterable[Values], rows: ChoiceRows,
               rng: np.random.Generator, num_resamples: int = 400) -> tuple[float, float, float]:
    """APGR of one contender less another's on the same prompts, with its 95 % interval."""
    pairs = list(zip(ours, theirs, strict=True))

    def mean(drawn: NDArray[np.intp]) -> float:
        weak, strong = rows.weak[drawn], rows.strong[drawn]
        return float(np.mean([gap_curve(a[drawn], weak, strong).apgr
                              - gap_curve(b[drawn], weak, strong).apgr for a, b in pairs]))

    draws = [mean(drawn) for drawn in rng.integers(0, len(rows), (num_resamples, len(rows)))]
    low, high = np.quantile(draws, [0.025, 0.975])
    return mean(np.arange(len(rows))), float(low), float(high)


def _figures(ranks: Values, weak: Values, strong: Values) -> list[float]:
    curve = gap_curve(ranks, weak, strong)
    return [curve.apgr, *(curve.cost(level) for level in LEVELS)]


def _operating(ranks: Values, folds: NDArray[np.intp], rows: ChoiceRows,
               level: float) -> tuple[float, float]:
    """The share that recovers ``level`` on the other folds, taken as threshold for each fold."""
    chosen = np.zeros(len(rows), bool)
    for fold in np.unique(folds):
        other = folds != fold
        share = gap_curve(ranks[other], rows.weak[other], rows.strong[other]).cost(level)
        chosen[~other] = ranks[~other] > 1.0 - share
    return recovered_at(chosen, rows.weak, rows.strong)
