"""Step times that are longer than a model's by a constant."""

from dataclasses import dataclass, replace

from penstock.core.step import StepFeatures, StepTime
from penstock.perf.step_time.protocol import Slopes, StepTimeModel


@dataclass(frozen=True, slots=True)
class LongerStepTime:
    """``inner`` with ``extra_s`` more for every step."""

    inner: StepTimeModel
    extra_s: float

    @property
    def slopes(self) -> Slopes | None:
        """The inner model's slopes."""
        return self.inner.slopes

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        return self.extra_s + self.inner.seconds(prefill_tokens, attention_work, decode_seqs,
                                                 context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The inner model's answer with the constant as a part of its own."""
        inner = self.inner.predict(features)
        return replace(inner, total_s=inner.total_s + self.extra_s,
                       low_s=inner.low_s + self.extra_s, high_s=inner.high_s + self.extra_s,
                       parts={**inner.parts, "adapters": self.extra_s})


def longer(model: StepTimeModel, extra_s: float) -> StepTimeModel:
    """Return the model with so much more for every step, which is the model itself for 0."""
    return LongerStepTime(model, extra_s) if extra_s else model
