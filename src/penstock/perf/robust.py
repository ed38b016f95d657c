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


def fit_nonnegative(design: Floats, seconds: Floats, scale_s: Floats | None = None, *,
                    huber: float = _HUBER) -> list[float]:
    """Coefficients >= 0 that minimise a Huber loss of (design @ c - seconds) / scale_s.

    ``design`` has one row per step and one column per coefficient. Without ``scale_s`` errors are
    relative to ``seconds``. Iteratively reweighted non-negative least squares; deterministic.
    """
    from scipy.optimize import nnls  # type: ignore[import-untyped]

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
        found, _ = nnls(scaled * root[:, None], root * wanted)
        if np.allclose(found, found_before, rtol=1e-7, atol=1e-12):
            break
        weights = _huber_weights(scaled @ found - wanted, huber)
    return [float(value) for value in found / lengths]


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
    from scipy.optimize import least_squares

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
