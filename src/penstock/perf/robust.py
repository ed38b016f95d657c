"""Least squares that stays non-negative and is not led astray by a few stalled steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Huber's constant: 95 % efficient when errors are in fact normal (Huber, 1964).
_HUBER = 1.345
_MAX_ROUNDS = 30
_MAX_HALVINGS = 6
_LARGEST_STEP = 1.0
_DEPENDENT = 1e-11  # what of a column may be left beside the others that it depends on


def fit_nonnegative(design: Floats, seconds: Floats, scale_s: Floats | None = None, *,
                    huber: float = _HUBER) -> list[float]:
    """Coefficients >= 0 that minimise a Huber loss of (design @ c - seconds) / scale_s.

    ``design`` has one row per step and one column per coefficient. Without ``scale_s`` errors are
    relative to ``seconds``. Iteratively reweighted non-negative least squares; deterministic.
    """
    scale_s = seconds if scale_s is None else scale_s
    wanted = seconds / scale_s
    # Relative errors, then columns of equal length: token^2 and constants differ by 10^9.
    relative = design / scale_s[:, None]
    lengths = np.linalg.norm(relative, axis=0)
    lengths[lengths == 0.0] = 1.0
    scaled = relative / lengths
    weights = np.ones(len(seconds))
    found = np.zeros(design.shape[1])
    for _ in range(_MAX_ROUNDS):
        root = np.sqrt(weights)
        found_before = found
        found = nonnegative_least_squares(scaled * root[:, None], root * wanted)
        if np.allclose(found, found_before, rtol=1e-7, atol=1e-12):
            break
        weights = _huber_weights(scaled @ found - wanted, huber)
    return [float(value) for value in found / lengths]


def nonnegative_least_squares(design: Floats, wanted: Floats) -> Floats:
    """Coefficients >= 0 that minimise |design @ c - wanted|, by Lawson and Hanson's active sets.

    The sets are searched in the normal equations, and the result is refined once with the design
    itself. Columns should have similar lengths. SciPy's function takes 0.3 s to import.
    """
    square, target = design.T @ design, design.T @ wanted
    tableau = np.column_stack([square, target])
    least_pivot = _DEPENDENT * np.diag(square)
    enough = _DEPENDENT * float(np.abs(target).max(initial=0.0))
    found = np.zeros(len(target))
    free = np.zeros(len(target), dtype=bool)
    for _ in range(3 * len(target)):
        slope = np.where(free | (np.diag(tableau) <= least_pivot), -np.inf, tableau[:, -1])
        best = int(slope.argmax())
        if slope[best] <= enough:
            break
        _exchange(tableau, best)
        free[best] = True
        found = _within_bounds(tableau, found, free)
    rest = target - design.T @ (design @ found)
    found[free] += tableau[np.ix_(free, free)] @ rest[free]
    return np.maximum(found, 0.0)


def _exchange(tableau: Floats, place: int) -> None:
    """Free the coefficient at ``place``, or fix it to 0 if it is free (the sweep operator).

    The last column holds the solutions of free coefficients and the slopes of the others; rows and
    columns of the free are the inverse of their normal equations.
    """
    pivot, column = tableau[place, place], tableau[:, place].copy()
    row = tableau[place] / pivot
    tableau -= np.multiply.outer(column, row)
    tableau[place] = row
    tableau[:, place] = -column / pivot
    tableau[place, place] = 1.0 / pivot


def _within_bounds(tableau: Floats, found: Floats, free: NDArray[np.bool_]) -> Floats:
    """The solution of the free coefficients. Those that would fall below 0 on the way there from
    ``found`` are fixed to 0, and ``free`` no more."""
    while True:
        solved = np.where(free, tableau[:, -1], 0.0)
        below = np.flatnonzero(free & (solved <= 0.0))
        if not len(below):
            return solved
        moved = found[below] / np.maximum(found[below] - solved[below], 1e-300)
        share = float(moved.min())
        found = found + share * (solved - found)
        for place in below[moved <= share].tolist():
            _exchange(tableau, place)
            free[place] = False
            found[place] = 0.0


def isotonic(values: Floats) -> Floats:
    """The rising sequence nearest to ``values`` in least squares, by pooling neighbours that fall
    (Ayer et al., 1955)."""
    means: list[float] = []
    counts: list[int] = []
    for value in values.tolist():
        mean, count = value, 1
        while means and means[-1] >= mean:
            mean = (means[-1] * counts[-1] + mean * count) / (counts[-1] + count)
            count += counts.pop()
            means.pop()
        means.append(mean)
        counts.append(count)
    return np.repeat(means, counts)


def _huber_weights(errors: Floats, huber: float) -> Floats:
    # Median absolute deviation scaled to a normal's standard deviation.
    scale = max(1.4826 * float(np.median(np.abs(errors))), 1e-6)
    beyond = np.maximum(np.abs(errors) / (huber * scale), 1.0)
    return np.asarray(1.0 / beyond)


def fit_knee(tokens: Floats, decode_seqs: Floats, work: Floats, context: Floats, seconds: Floats,
             start: list[float]) -> list[float]:
    """Floor, knee rate, sharpness, token, decode, work and context rates of ``KneeStepTime``.

    ``start`` is the linear fit (base, prefill token, work, decode, context). Bounded
    least squares with a Huber loss on relative errors, from two starting points.
    """
    from scipy.optimize import least_squares  # type: ignore[import-untyped]

    base, token, work_s, decode_s, context_s = start
    base = max(base, 0.1 * float(seconds.min()))
    token = max(token, 1e-3 * base / max(float(tokens.max()), 1.0))
    # Solve in units of a typical rate, so that every unknown is of order one.
    typical = float(np.median(seconds))
    unit = np.array([typical, *(typical / max(float(column.max()), 1.0)
                                for column in (tokens, tokens, decode_seqs, work, context))])

    def split(scaled: Floats) -> Floats:
        rates = scaled[:6] * unit
        return np.array([rates[0], rates[1], 1.0 + scaled[6], *rates[2:]])

    def errors(scaled: Floats) -> Floats:
        floor, knee_token, sharpness, token_s, seq_s, pair_s, read_s = split(scaled)
        larger = np.maximum(floor, knee_token * tokens)
        smaller = np.minimum(floor, knee_token * tokens)
        # Factored so that a high power cannot overflow.
        ratio = np.divide(smaller, larger, out=np.zeros_like(larger), where=larger > 0.0)
        knee = larger * (1.0 + ratio**sharpness) ** (1.0 / sharpness)
        total = knee + token_s * tokens + seq_s * decode_seqs + pair_s * work + read_s * context
        return np.asarray(total / seconds - 1.0)

    scale = 0.05
    best = None
    for share in (0.3, 0.9):
        rates = np.array([base, share * token, (1.0 - share) * token,
                          max(decode_s - token, 0.0), work_s, context_s]) / unit
        guess = np.clip(np.append(rates, 2.0), 1e-9, [*[1e6] * 6, 14.0])
        answer = least_squares(errors, guess, bounds=(0.0, [*[np.inf] * 6, 15.0]),
                               loss="huber", f_scale=scale, x_scale="jac", max_nfev=400)
        if best is None or answer.cost < best.cost:
            best = answer
    assert best is not None
    return [float(value) for value in split(best.x)]


@dataclass(frozen=True, slots=True)
class RidgeFit:
    """Effects near 0 and the inverse of their covariance, where errors are in standard deviations.
    ``cost`` is twice the soft-L1 loss of the errors plus the squares of the effects' own."""

    effects: Floats
    information: Floats
    cost: float


def fit_soft_l1(start: Floats, deviation: Floats, errors: Callable[[Floats], Floats],
                errors_and_slopes: Callable[[Floats], tuple[Floats, Any]],
                enough: float = 1e-4) -> RidgeFit:
    """Minimise a soft-L1 loss of ``errors`` plus (effects / ``deviation``)^2 from ``start``.

    Gauss-Newton, reweighted, with halved steps. ``deviation`` are the standard deviations of the
    effects' normal priors around 0. ``errors_and_slopes`` returns the slopes as a sparse matrix.
    Ends where a step lowers the cost by less than the share ``enough``.
    """
    def cost_of(effects: Floats) -> float:
        error = errors(effects)
        return (2.0 * float((np.sqrt(1.0 + error * error) - 1.0).sum())
                + float(((effects / deviation)**2).sum()))

    def linearised(effects: Floats) -> tuple[Floats, Floats]:
        error, slope = errors_and_slopes(effects)
        weighted = slope.multiply((1.0 / np.sqrt(1.0 + error * error))[:, None]).tocsr()
        square = np.asarray((slope.T @ weighted).todense())
        square[np.diag_indices(len(effects))] += deviation**-2.0
        return square, weighted.T @ error + effects / deviation**2

    effects, cost = start, cost_of(start)
    square, gradient = linearised(effects)
    for _ in range(_MAX_ROUNDS):
        step = -np.linalg.solve(square, gradient)
        step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        for _ in range(_MAX_HALVINGS):
            found = cost_of(effects + step)
            if found < cost:
                break
            step *= 0.5
        else:
            break
        effects, last, cost = effects + step, cost, found
        square, gradient = linearised(effects)
        if last - cost < enough * cost:
            break
    return RidgeFit(effects, square, cost)
