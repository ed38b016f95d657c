"""Real step times of one device: off the model of them by a draw from the model's interval."""

from math import exp, log

import numpy as np

from penstock.core.step import StepFeatures
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.protocol import StepTimeModel

_USUAL = StepFeatures(256, 2.0**15, 16, 2**14)
_SIGMAS = 1.96  # an interval of 95 % reaches so far


def deviating(model: StepTimeModel, rng: np.random.Generator) -> StepTimeModel:
    """The model times a factor that is drawn once: the real step times of one device.

    The factor is log-normal with median 1. 95 % of the draws lie within the model's interval for a
    usual step; the others are cut to it, so no device is faster than its physical bound. A model
    that states no error is taken at its word.
    """
    usual = model.predict(_USUAL)
    if usual.total_s <= 0.0 or usual.high_s <= usual.total_s:
        return model
    low, high = usual.low_s / usual.total_s, usual.high_s / usual.total_s
    factor = exp(log(high) / _SIGMAS * rng.standard_normal())
    return BiasedStepTime(model, min(max(factor, low), high))
