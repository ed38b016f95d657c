"""Inferno's first guess, its Nelder-Mead fit over several observations, and its condition number.

Source: llm-inferno/model-tuner pkg/estimator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from penstock.perf.queueing.batch import Array
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.values import OperatingPoint, State

BLIND_START: State = (5.0, 0.05, 5e-4)
"""Start of a fit where no guess can be made."""
UNFIT = float(np.finfo(np.float64).max)
"""Objective of a fit that failed."""
_IMPOSSIBLE = UNFIT / 2.0  # objective where the model gives no latencies
_BASE_SHARE = 0.9  # of ITL that is alpha, where there is no seed
_MOST_EVALUATIONS = 500
_RELATIVE_STEP = 1e-3


@dataclass(frozen=True, slots=True)
class Fit:
    """Result of a fit. ``objective`` is the sum of squared relative errors, 0 where the guess took
    the place of a fit that could not be identified."""

    state: State
    objective: float
    condition: float = 0.0


def guess(point: OperatingPoint, seed: State | None) -> State | None:
    """Return parameters from one observation, None where there are none.

    For one request alone, TTFT = alpha + (beta + gamma) I and ITL = alpha + beta + gamma
    (I + (O + 1) / 2). The seed's gamma is kept, and the two equations give alpha and beta; the
    seed as a whole is taken where one of them is not positive. Without a seed alpha is 90 % of ITL.
    """
    prompt, answer = point.input_tokens, point.output_tokens
    ttft, itl = point.ttft_ms, point.itl_ms
    if not point.usable:
        return None
    half = (answer + 1.0) / 2.0
    if seed is not None:
        gamma = seed[2]
        if prompt > 1.0:
            beta = (ttft - itl + gamma * half) / (prompt - 1.0)
            alpha = itl - beta - gamma * (prompt + half)
            if alpha > 0.0 and beta > 0.0:
                return alpha, beta, gamma
        return seed
    alpha = _BASE_SHARE * itl
    both = (ttft - alpha) / prompt
    gamma = ((itl - alpha) - both) / (prompt + half - 1.0)
    found = alpha, both - gamma, gamma
    return found if min(found) > 0.0 else None


def errors(points: Sequence[OperatingPoint], states: Array) -> Array:
    """Return relative errors of TTFT and ITL, shape (states, points, 2); infinite where the model
    gives no latencies."""
    observed = np.array([(point.ttft_ms, point.itl_ms) for point in points])
    latencies = predicted(points, states)
    possible = (latencies > 0.0).all(axis=2, keepdims=True) & (observed > 0.0).all(
        axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return np.where(possible, (latencies - observed) / observed, inf)


def nelder_mead(points: Sequence[OperatingPoint], start: State) -> Fit | None:
    """Minimise the sum of squared relative errors from ``start``, at most 500 evaluations.

    Parameters are in units of the start. Returns None where the end is not positive.
    """
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    def objective(scaled: Array) -> float:
        total = float((errors(points, (scaled * start)[None, :]) ** 2).sum())
        return total if total < _IMPOSSIBLE else _IMPOSSIBLE

    found = minimize(objective, np.ones(len(start)), method="Nelder-Mead",
                     options={"maxfev": _MOST_EVALUATIONS, "xatol": 1e-9, "fatol": 1e-10})
    state = tuple((found.x * start).tolist())
    return Fit(state, float(found.fun)) if min(state) > 0.0 else None


def condition_number(points: Sequence[OperatingPoint], state: State) -> float:
    """Return the ratio of the singular values of d(relative errors) / d(log parameters).

    Infinite where the observations are fewer than the parameters or cannot be explained. Below
    100 a fit is sound; above 1,000 a combination of parameters is free.
    """
    if 2 * len(points) < len(state):
        return inf
    at = np.array(state)
    factors = np.diag(np.full(len(state), _RELATIVE_STEP))
    ups, downs = (errors(points, at * (1.0 + sign * factors)).reshape(len(state), -1)
                  for sign in (1.0, -1.0))
    if not (np.isfinite(ups).all() and np.isfinite(downs).all()):
        return inf
    values = np.linalg.svd((ups - downs) / (2.0 * _RELATIVE_STEP), compute_uv=False)
    return float(values[0] / values[-1]) if values[-1] > 0.0 else inf


def first_fit(points: Sequence[OperatingPoint], seed: State | None,
              condition_limit: float) -> Fit | None:
    """Return the fit of a cold start, or the guess from the first point where the fit fails.

    A fit beyond ``condition_limit`` (0 for none) is replaced by the guess, with objective 0.
    Returns None where there is no guess either.
    """
    fallback = guess(points[0], seed)
    found = nelder_mead(points, fallback or BLIND_START)
    if found is None:
        return None if fallback is None else Fit(fallback, UNFIT)
    if condition_limit <= 0.0:
        return found
    condition = condition_number(points, found.state)
    if condition <= condition_limit:
        return Fit(found.state, found.objective, condition)
    return None if fallback is None else Fit(fallback, 0.0, condition)
