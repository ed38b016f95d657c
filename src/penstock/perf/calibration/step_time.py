"""Step-time models as parameters of a calibration, and calibrated parameters as a model."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from penstock.core.step import StepFeatures
from penstock.perf.calibration.values import (
    SIGMAS,
    Calibrated,
    LatencyModel,
    ServedPoint,
)
from penstock.perf.evidence import NO_LIMIT, Evidence
from penstock.perf.queueing.parameters import DEFAULT_STEP_TOKENS, IterationTimes
from penstock.perf.step_time.linear import LinearStepTime
from penstock.perf.step_time.protocol import StepTimeModel

_DECODES, _CONTEXT, _LONGER = 16, 500, 2_000
_PROMPT, _LONGER_PROMPT = 256, 2_048
_LEAST_SHARE = 1e-6  # of a decode step: parameters are positive
_ROOM = 2.0
"""Ratio of the largest decodes and context of the evidence over the mean ones observed."""


def parameters_of(model: StepTimeModel, max_step_tokens: int = DEFAULT_STEP_TOKENS
                  ) -> IterationTimes:
    """Return the parameters that are nearest to a step-time model: gamma from contexts of decodes,
    beta from prompts, alpha from a step of a few decodes."""

    def decodes(context: int) -> float:
        return 1000.0 * model.seconds(0, 0.0, _DECODES, _DECODES * context)

    def prompt(tokens: int) -> float:
        return 1000.0 * model.seconds(tokens, tokens**2 / 2.0, 0, 0)

    step_ms = decodes(_CONTEXT)
    least = _LEAST_SHARE * step_ms
    gamma = max((decodes(_LONGER) - step_ms) / (_DECODES * (_LONGER - _CONTEXT)), least / 1e3)
    beta = max((prompt(_LONGER_PROMPT) - prompt(_PROMPT)) / (_LONGER_PROMPT - _PROMPT), least)
    alpha = max(step_ms - _DECODES * (beta + gamma * _CONTEXT), 0.1 * step_ms)
    return IterationTimes(alpha, beta, gamma, max_step_tokens)


def step_time_of(known: Calibrated, points: Sequence[ServedPoint], model: LatencyModel
                 ) -> LinearStepTime:
    """Return the step times for schedulers, simulations and plans.

    A prompt is read once where it is computed, so a prompt token costs beta + gamma. The error is
    that of the points' inter-token latencies, and of the parameters where it is greater.
    """
    times = known.times
    predicted = model(points, [times])[0, :, 1] if points else np.ones(0)
    off = np.abs(predicted / np.array([point.itl_ms for point in points]) - 1.0)
    mean, high = (float(off.mean()), float(np.quantile(off, 0.95))) if points else (1.0, 1.0)
    spread = float(np.exp(SIGMAS * min(known.log_sd[0], 1.0)) - 1.0)
    evidence = Evidence(f"calibrated while serving, {known.num_points} points", mean,
                        max(high, spread), _largest(points))
    return LinearStepTime(times.alpha_ms / 1e3, (times.beta_ms + times.gamma_ms) / 1e3, 0.0,
                          times.beta_ms / 1e3, times.gamma_ms / 1e3, evidence)


def _largest(points: Sequence[ServedPoint]) -> StepFeatures:
    """Return the largest inputs that the points tell of: decodes by Little's law."""
    decodes = [_ROOM * point.rate_per_s * point.itl_ms / 1e3 * point.size.output_tokens
               for point in points]
    context = [number * (point.size.input_tokens + point.size.output_tokens)
               for number, point in zip(decodes, points, strict=True)]
    return NO_LIMIT._replace(decode_seqs=ceil(max(decodes, default=0.0)),
                             decode_context_tokens=ceil(max(context, default=0.0)))
