"""Weights of terms: as usual where nothing was measured, moved by what was."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.perf.fingerprint.physics import Term

Floats = NDArray[np.float64]

PULL = 0.0005
"""Cost of a weight that is off its usual value by all of that value, as a share of the cost of a
relative error of 1 in all rows."""

_HUBER = 1.345
_ROUNDS = 20
_LEAST_SCALE = 0.005


def fit_weights(terms: Sequence[Term], amounts: Floats, target: Floats, scale: Floats) -> Floats:
    """Weights >= 0 that make ``amounts @ weights`` close to ``target`` relative to ``scale``.

    ``amounts`` has one row per measurement and one column per term. Least squares with a Huber loss
    (median absolute deviation as scale), and a ridge towards each term's usual weight in units of
    it, so that what no row tells apart stays in its usual proportion. Deterministic.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

    usual = np.array([term.usual for term in terms])
    design = amounts / scale[:, None] * usual
    aim = target / scale
    pull = np.sqrt(PULL * len(aim))
    ridge, home = pull * np.eye(len(usual)), np.full(len(usual), pull)
    counts = np.ones(len(aim))
    found = np.ones(len(usual))
    for _ in range(_ROUNDS):
        root = np.sqrt(counts)
        found, _ = nnls(np.vstack((design * root[:, None], ridge)),
                        np.concatenate((aim * root, home)))
        errors = np.abs(design @ found - aim)
        spread = max(1.4826 * float(np.median(errors)), _LEAST_SCALE)
        counts = 1.0 / np.maximum(errors / (_HUBER * spread), 1.0)
    return np.asarray(found * usual)


def weighted(weights: Iterable[float], amounts: Iterable[float]) -> float:
    """The sum of amounts, each times its weight."""
    return sum(weight * amount for weight, amount in zip(weights, amounts, strict=True))


def usual(terms: Iterable[Term]) -> tuple[float, ...]:
    """The weights that terms have where nothing was measured."""
    return tuple(term.usual for term in terms)


class Rows:
    """Measurements as amounts of terms, while they are gathered."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        self._amounts: list[list[float]] = []
        self._target: list[float] = []
        self._scale: list[float] = []

    def __len__(self) -> int:
        return len(self._target)

    def add(self, amounts: list[float], target: float, scale: float | None = None) -> None:
        """One measurement, whose error counts relative to ``scale`` (default: itself)."""
        self._amounts.append(amounts)
        self._target.append(target)
        self._scale.append(target if scale is None else scale)

    def weights(self) -> tuple[float, ...]:
        """The fitted weights; the usual ones where nothing was measured."""
        if not self._target:
            return usual(self._terms)
        found = fit_weights(self._terms, np.array(self._amounts), np.array(self._target),
                            np.array(self._scale))
        return tuple(float(value) for value in found)
