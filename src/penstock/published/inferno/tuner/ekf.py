"""Inferno's extended Kalman filter over step-time parameters, with its gates.

Source: llm-inferno/model-tuner pkg/core and llm-inferno/kalman-filter. The transition is the
identity, and the observation is TTFT and ITL of the queue analysis.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from penstock.perf.queueing.batch import Array
from penstock.published.inferno.queueing.rates import Precision
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.values import FilterConfig, OperatingPoint, State

MAX_NIS = 7.378
"""97.5 % quantile of chi-squared with two degrees of freedom."""
SLOPE_STEP = 0.01
"""Step of central differences, as a share of the parameter."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Noise and bounds of one filter. ``process`` are the variances that each step adds; they keep
    the size that they had for the first state."""

    process: State
    noise: tuple[float, float]
    least: State | None = None
    most: State | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A state and its covariance, row by row."""

    state: State
    covariance: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Outcome of one step: the new estimate, or the old one where a gate refused it.

    ``innovation`` is observed less predicted TTFT and ITL, in ms. ``nis`` is the innovation squared
    over its covariance.
    """

    estimate: Estimate
    innovation: tuple[float, float]
    nis: float
    refused: Literal["state", "nis"] | None = None


def new_filter(config: FilterConfig) -> tuple[Filter, Estimate]:
    """Return the filter of a configuration and its first estimate: P0 = Q = diag((share x)^2)."""
    process = tuple((share * value) ** 2 for share, value in zip(
        config.percent_change, config.init_state, strict=True))
    bounds = (config.least_state, config.most_state) if config.bounded else (None, None)
    covariance = np.diag(process)
    return (Filter(process, config.noise, *bounds),
            Estimate(config.init_state, tuple(map(tuple, covariance.tolist()))))


def step(of: Filter, before: Estimate, point: OperatingPoint, max_nis: float | None = MAX_NIS,
         precision: Precision = np.float64) -> Step:
    """Predict and correct with one observation.

    P += Q; y = z - h(x); S = H P H' + R; K = P H' / S; x += K y within the bounds;
    P = (I - K H) P. A state that is not positive, or a NIS of ``max_nis`` or more (None for no
    gate), is refused.
    """
    state = _limited(np.array(before.state), of)
    covariance = np.array(before.covariance) + np.diag(of.process)
    expected, slopes = _linearised(point, state, precision)
    innovation = np.array([point.ttft_ms, point.itl_ms]) - expected
    spread = slopes @ covariance @ slopes.T + np.diag(of.noise)
    inverse = np.linalg.inv(spread)
    gain = covariance @ slopes.T @ inverse
    state = _limited(state + gain @ innovation, of)
    covariance = (np.eye(len(state)) - gain @ slopes) @ covariance
    nis = float(innovation @ inverse @ innovation)
    seen = float(innovation[0]), float(innovation[1])
    if not (state > 0.0).all():
        return Step(before, seen, nis, "state")
    if max_nis is not None and not nis < max_nis:
        return Step(before, seen, nis, "nis")
    return Step(Estimate(tuple(state.tolist()), tuple(map(tuple, covariance.tolist()))), seen, nis)


def _linearised(point: OperatingPoint, state: Array, precision: Precision) -> tuple[Array, Array]:
    """Return TTFT and ITL at the state, and their slopes by central differences."""
    steps = SLOPE_STEP * np.abs(state)
    steps[steps == 0.0] = SLOPE_STEP
    moves = np.diag(steps)
    values = predicted([point], np.concatenate([state[None, :], state + moves, state - moves]),
                       precision)[:, 0, :]
    ups, downs = values[1:len(state) + 1], values[len(state) + 1:]
    return values[0], ((ups - downs) / (2.0 * steps[:, None])).T


def _limited(state: Array, of: Filter) -> Array:
    if of.least is None or of.most is None:
        return state
    return np.minimum(np.maximum(state, of.least), of.most)
