"""Real step times of one device: off the model of them by a factor from the model's interval."""

from math import exp, log

import numpy as np

from penstock.core.step import StepFeatures
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.protocol import StepTimeModel

USUAL_STEP = StepFeatures(256, 2.0**15, 16, 2**14)
"""A step of usual size, for intervals that stand for all steps."""

_SIGMAS = 1.96  # an interval of 95 % reaches so far


def deviation(model: StepTimeModel, sigmas: float) -> float:
    """Return real over predicted step times at ``sigmas`` standard deviations of its logarithm.

    The factor is log-normal with median 1. 95 % of the factors lie within the model's interval for
    a usual step; the others are cut to it, so no device is faster than its physical bound. A model
    that states no error is taken at its word: the factor is 1.
    """
    usual = model.predict(USUAL_STEP)
    if usual.total_s <= 0.0 or usual.high_s <= usual.total_s:
        return 1.0
    low, high = usual.low_s / usual.total_s, usual.high_s / usual.total_s
    return min(max(exp(log(high) / _SIGMAS * sigmas), low), high)


def drawn_deviation(model: StepTimeModel, rng: np.random.Generator) -> float:
    """Draw a factor on the model's step times from the model's interval."""
    return deviation(model, float(rng.standard_normal()))


def deviating(model: StepTimeModel, rng: np.random.Generator) -> StepTimeModel:
    """Return the model times a factor that is drawn once: the real step times of one device."""
    return biased(model, drawn_deviation(model, rng))
