"""Why a step takes as long as a step-time model says: its parts, and the same work in two passes.

The parts are the summands of the model's own estimate. Rooflines and composed kernels tell every
operation; other models tell the coarse parts of their form.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from penstock.core.step import StepFeatures, StepTime
from penstock.perf.kernels.compose import KernelStepTime
from penstock.perf.kernels.kernel_parts import kernel_parts
from penstock.perf.step_time.breakdown import Part, coarse_parts
from penstock.perf.step_time.calibration import BiasedStepTime
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.perf.step_time.roofline import RooflineStepTime
from penstock.perf.step_time.roofline_parts import roofline_parts


@dataclass(frozen=True, slots=True)
class Explanation:
    """A step and its parts. ``bound_s`` is 0 where the model has no physical bound.

    ``by_operation`` is false where the model tells coarse parts alone. ``passes_s`` are the times
    of the step's prompts and of its decodes, each in a pass of its own; None where the step has
    only one of them.
    """

    features: StepFeatures
    told: StepTime
    parts: tuple[Part, ...]
    bound_s: float
    by_operation: bool
    passes_s: tuple[float, float] | None


def explained(model: StepTimeModel, features: StepFeatures) -> Explanation:
    """Return the parts of a step, of at least one token, whose times sum to the model's time."""
    prefill, work, decodes, context = features
    passes_s = None
    if prefill and decodes:
        passes_s = model.seconds(prefill, work, 0, 0), model.seconds(0, 0.0, decodes, context)
    bound_s = _bound_seconds(model, features)
    return Explanation(features, model.predict(features), tuple(step_parts(model, features)),
                       bound_s or 0.0, bound_s is not None, passes_s)


def _bound_seconds(model: StepTimeModel, features: StepFeatures) -> float | None:
    """Return the physical bound of a step, None of a model that knows none."""
    if isinstance(model, BiasedStepTime):
        return _bound_seconds(model.inner, features)
    if isinstance(model, RooflineStepTime | KernelStepTime):
        return model.bound_seconds(features)
    return None


def step_parts(model: StepTimeModel, features: StepFeatures) -> Iterable[Part]:
    """Return the parts of a step, as fine as the model knows them."""
    if isinstance(model, RooflineStepTime):
        return roofline_parts(model, features)
    if isinstance(model, KernelStepTime):
        return kernel_parts(model, features)
    if isinstance(model, BiasedStepTime):
        return (part.times(model.factor) for part in step_parts(model.inner, features))
    return coarse_parts(model.predict(features))
