"""Three learners of step-time parameters beside each other: Inferno's filter, its Nelder-Mead fit,
and Penstock's calibration, on the same observations and from the same first belief."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.perf.calibration.calibration import Calibration
from penstock.perf.calibration.values import Calibrated, LatencyModel, Prior, ServedPoint
from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.parameters import IterationTimes, RequestSize
from penstock.published.inferno.loop.cycles import State
from penstock.published.inferno.tuner.ekf import new_filter, step
from penstock.published.inferno.tuner.fits import first_fit
from penstock.published.inferno.tuner.model import predicted
from penstock.published.inferno.tuner.values import FilterConfig, OperatingPoint

NAMES = ("alpha", "beta", "gamma")
_ALPHA, _BETA, _GAMMA = FilterConfig().init_state
FIRST_BELIEF = IterationTimes(_ALPHA, _BETA, _GAMMA)
CONDITION_LIMIT = 1000.0


@dataclass(frozen=True, slots=True)
class Found:
    """Parameters that each learner found, and the uncertainty of Penstock's. ``simplex`` is None
    where the fit could not be identified and no guess was possible."""

    filter: State
    simplex: State | None
    ours: Calibrated


def learn(points: Sequence[OperatingPoint]) -> Found:
    """Let every learner see the points in order."""
    of, estimate = new_filter(FilterConfig())
    for point in points:
        estimate = step(of, estimate, point, None).estimate
    fit = first_fit(points, FilterConfig().init_state, CONDITION_LIMIT)
    return Found(_state(estimate.state), None if fit is None else _state(fit.state),
                 calibrated(points).known)


def calibrated(points: Sequence[OperatingPoint]) -> Calibration:
    """Return Penstock's calibration after the points, with Inferno's analysis as the model."""
    calibration = new_calibration(points[0])
    for point in points:
        calibration.observe(served(point))
    return calibration


def new_calibration(like: OperatingPoint) -> Calibration:
    """Return an empty calibration for points that are analysed like one."""
    return Calibration(Prior(FIRST_BELIEF), latencies(one_chunk=like.one_chunk))


def served(point: OperatingPoint) -> ServedPoint:
    """Return an observation of the tuner as one of Penstock's calibration."""
    size = RequestSize(point.input_tokens, point.output_tokens)
    return ServedPoint(point.rate_per_min / 60.0, size, point.max_batch, point.ttft_ms,
                       point.itl_ms, point.max_queue)


def latencies(*, one_chunk: bool) -> LatencyModel:
    """Return Inferno's analysis as the latency model of a calibration."""

    def model(points: Sequence[ServedPoint], times: Sequence[IterationTimes]) -> Array:
        states = np.array([(one.alpha_ms, one.beta_ms, one.gamma_ms) for one in times])
        return predicted([OperatingPoint(
            60.0 * one.rate_per_s, one.max_batch, one.max_queue, one.size.input_tokens,
            one.size.output_tokens, one.ttft_ms, one.itl_ms, one_chunk) for one in points], states)

    return model


def errors(state: Sequence[float], truth: State) -> State:
    """Return found over true parameter, less 1, of each."""
    alpha, beta, gamma = (one / true - 1.0 for one, true in zip(state, truth, strict=True))
    return alpha, beta, gamma


def state_of(times: IterationTimes) -> State:
    """Return alpha, beta and gamma."""
    return times.alpha_ms, times.beta_ms, times.gamma_ms


def observed(load: Sequence[float], max_batch: int, truth: State) -> OperatingPoint:
    """Return what the tuner sees of a replica with true parameters at a load: requests per minute,
    prompt and output tokens."""
    rate, prompt, answer = load
    blank = OperatingPoint(rate, max_batch, 0, prompt, answer, 1.0, 1.0)
    ttft_ms, itl_ms = predicted([blank], np.array([truth]))[0, 0].tolist()
    return OperatingPoint(rate, max_batch, 0, prompt, answer, ttft_ms, itl_ms)


def _state(state: Sequence[float]) -> State:
    alpha, beta, gamma = state
    return alpha, beta, gamma
