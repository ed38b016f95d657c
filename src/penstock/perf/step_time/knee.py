"""A step time with a smooth knee between reading the weights and multiplying by them."""

from dataclasses import dataclass
from math import pow as power
from typing import Any

from penstock.core.step import StepFeatures, StepTime
from penstock.core.value import made_again
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.protocol import Slopes


@dataclass(frozen=True, slots=True)
class KneeStepTime:
    """Seconds = (floor^p + (knee_token T)^p)^(1/p) + token T + decode_seq D + work W + context K.

    T counts prefill and decode tokens, D decodes, W attention work (tokens^2), K context tokens.
    ``floor_s`` is the time of a step of few tokens, bound by memory; p = ``sharpness`` >= 1 sets
    how abruptly compute takes over. All rates are seconds per unit and non-negative.
    """

    floor_s: float
    knee_token_s: float
    sharpness: float
    token_s: float
    decode_seq_s: float
    work_s: float
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
        tokens = prefill_tokens + decode_seqs
        p = self.sharpness
        # math.pow gives the same bits as **, and native code calls it directly.
        knee_s = power(power(self.floor_s, p) + power(self.knee_token_s * tokens, p), 1.0 / p)
        return (knee_s + self.token_s * tokens + self.decode_seq_s * decode_seqs
                + self.work_s * attention_work + self.context_s * context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        dense_s = self.seconds(features.prefill_tokens, 0.0, features.decode_seqs, 0)
        parts = {
            "dense": dense_s,
            "prefill_attention": self.work_s * features.prefill_attention_work,
            "decode_attention": self.context_s * features.decode_context_tokens,
        }
        return self.evidence.step_time(features, self.seconds(*features), parts)
