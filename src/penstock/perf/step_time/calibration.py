"""Correct a step-time model while it is in use, or bias one on purpose."""

from dataclasses import dataclass
from typing import Any

from penstock.core.step import StepFeatures, StepTime
from penstock.core.value import made_again
from penstock.perf.step_time.protocol import Slopes, StepTimeModel


class OnlineCorrection:
    """A running factor observed / predicted, and a margin that covers most of what remains.

    The factor is an exponentially weighted mean in which one step moves it by at most three
    typical deviations, so a stall does not spoil it and a lasting drift is followed. ``margin`` is
    the ``quantile`` of observed / (factor * predicted), tracked by stochastic approximation
    (Robbins and Monro, 1951). ``gain`` is the weight of a new observation once 1 / ``gain`` are in.
    """

    __slots__ = ("_deviation", "_gain", "_quantile", "factor", "margin", "num_updates")

    def __init__(self, gain: float = 0.02, quantile: float = 0.95) -> None:
        self._gain = gain
        self._quantile = quantile
        self._deviation = 0.1
        self.factor = 1.0
        self.margin = 1.0
        self.num_updates = 0

    def update(self, predicted_s: float, observed_s: float) -> None:
        """Learn from one finished step. ``predicted_s`` is the uncorrected prediction."""
        if predicted_s <= 0.0 or observed_s <= 0.0:
            return
        self.num_updates += 1
        ratio = observed_s / predicted_s
        gain = self._gain
        if self.num_updates * gain < 1.0:
            gain = 1.0 / self.num_updates
        error = ratio - self.factor
        size = error if error >= 0.0 else -error
        limit = 3.0 * self._deviation
        if size > limit:
            error = limit if error > 0.0 else -limit
            size = limit
        if ratio > self.margin * self.factor:
            self.margin += gain * self._deviation * self._quantile
        else:
            self.margin -= gain * self._deviation * (1.0 - self._quantile)
        self.factor += gain * error
        # The floor keeps a model that was perfect for long able to follow a sudden drift.
        self._deviation = max(self._deviation + gain * (size - self._deviation), 0.01)

    def upper_s(self, predicted_s: float) -> float:
        """The duration that a step with this uncorrected prediction rarely exceeds."""
        return predicted_s * self.factor * max(self.margin, 1.0)


@dataclass(frozen=True, slots=True)
class BiasedStepTime:
    """``inner`` times a constant factor: a corrected model, or one that is wrong by design."""

    inner: StepTimeModel
    factor: float

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    @property
    def slopes(self) -> Slopes | None:
        """The inner model's slopes times the factor."""
        inner = self.inner.slopes
        if inner is None:
            return None
        return Slopes(inner.work_s * self.factor, inner.context_s * self.factor, inner.exact)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        return self.factor * self.inner.seconds(prefill_tokens, attention_work, decode_seqs,
                                                context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The inner model's answer with every duration times the factor."""
        inner, factor = self.inner.predict(features), self.factor
        return StepTime(
            total_s=inner.total_s * factor, low_s=inner.low_s * factor,
            high_s=inner.high_s * factor,
            parts={name: part * factor for name, part in inner.parts.items()},
            source=f"{inner.source} x {factor:g}", extrapolated=inner.extrapolated,
            unmeasured=inner.unmeasured)


def biased(model: StepTimeModel, factor: float) -> StepTimeModel:
    """Return the model times a factor, which is the model itself for a factor of 1."""
    return model if factor == 1.0 else BiasedStepTime(model, factor)
