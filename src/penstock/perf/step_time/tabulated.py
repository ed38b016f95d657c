"""A step time interpolated between measured points."""

from bisect import bisect_right
from dataclasses import dataclass

from penstock.core.step import StepFeatures, StepTime
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.protocol import Slopes


@dataclass(frozen=True, slots=True)
class TabulatedStepTime:
    """A curve by total tokens, linear between ``knot_tokens``, plus linear terms for the rest.

    ``knot_tokens`` increase strictly and ``knot_s`` never falls; beyond the ends the nearest
    segment goes on. At least two knots.
    """

    knot_tokens: tuple[float, ...]
    knot_s: tuple[float, ...]
    decode_seq_s: float
    work_s: float
    context_s: float
    evidence: Evidence

    @property
    def slopes(self) -> Slopes:
        """Rates in attention work and context tokens."""
        return Slopes(self.work_s, self.context_s)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds."""
        tokens = prefill_tokens + decode_seqs
        knots, times = self.knot_tokens, self.knot_s
        right = min(max(bisect_right(knots, tokens), 1), len(knots) - 1)
        left = right - 1
        rate = (times[right] - times[left]) / (knots[right] - knots[left])
        base_s = max(0.0, times[left] + rate * (tokens - knots[left]))
        return (base_s + self.decode_seq_s * decode_seqs
                + self.work_s * attention_work + self.context_s * context_tokens)

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        parts = {
            "dense": self.seconds(features.prefill_tokens, 0.0, features.decode_seqs, 0),
            "prefill_attention": self.work_s * features.prefill_attention_work,
            "decode_attention": self.context_s * features.decode_context_tokens,
        }
        return self.evidence.step_time(features, self.seconds(*features), parts)
