"""The contract of a step-time model."""

from typing import NamedTuple, Protocol

from penstock.core.step import StepFeatures, StepTime


class Slopes(NamedTuple):
    """Seconds per unit in which a model's time is exactly affine.

    ``seconds(p, w, d, k) == seconds(p, 0, d, 0) + work_s * w + context_s * k`` for all inputs.
    The simulator uses it to jump over many steps with a closed form. A time that is not
    ``exact``ly affine is never less than these slopes say.
    """

    work_s: float
    context_s: float
    exact: bool = True


class StepTimeModel(Protocol):
    """Predicts how long one engine step takes."""

    @property
    def slopes(self) -> Slopes | None:
        """The slopes, or ``None`` when the time is not affine in work and context."""

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """The point estimate alone, in seconds: the hot path. Arguments as in StepFeatures."""

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with its interval, parts and source."""
