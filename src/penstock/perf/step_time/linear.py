"""A step time that is linear in the four step features."""

from dataclasses import dataclass
from typing import Any

from penstock.core.step import StepFeatures, StepTime
from penstock.core.value import made_again
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.protocol import Slopes


@dataclass(frozen=True, slots=True)
class LinearStepTime:
    """Seconds = base + prefill tokens, attention work, decodes and context, each at its own rate.

    ``base_s`` is per step, the others per token, token^2, sequence and token. None is negative.
    """

    base_s: float
    prefill_token_s: float
    work_s: float
    decode_seq_s: float
    context_s: float
    evidence: Evidence

    def __reduce__(self) -> tuple[Any, ...]:
        return made_again(self)

    @property
    def slopes(self) -> Slopes:
        """Rates in attention work and context tokens."""
        return Slopes(self.work_s, self.context_s)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        return (self.base_s + self.prefill_token_s * prefill_tokens
                + self.decode_seq_s * decode_seqs
                + self.work_s * attention_work + self.context_s * context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        parts = {
            "overhead": self.base_s,
            "dense": (self.prefill_token_s * features.prefill_tokens
                      + self.decode_seq_s * features.decode_seqs),
            "prefill_attention": self.work_s * features.prefill_attention_work,
            "decode_attention": self.context_s * features.decode_context_tokens,
        }
        return self.evidence.step_time(features, self.seconds(*features), parts)
