"""The two-range batch-time predictor of Niyama's artefact, kept with its quirks.

Source: microsoft/sarathi-serve, branch niyama_asplos2026, commit 72339db. Two ordinary
least-squares fits, for steps of at most 512 tokens and for longer ones, of Llama-3-8B on an A100
with its clocks locked at 1,065 MHz. The decode slope of the longer range is negative and the time
drops between 512 and 513 tokens; both are part of the published behaviour.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures, StepTime
from penstock.perf.evidence import Evidence
from penstock.perf.step_time.store import read_number, read_numbers


@dataclass(frozen=True, slots=True)
class NiyamaRange:
    """Coefficients of one range, in seconds per step, token, token, token, token and token."""

    base_s: float
    total_token_s: float
    prefill_token_s: float
    decode_token_s: float
    decode_context_s: float
    prefill_context_s: float


@dataclass(frozen=True, slots=True)
class NiyamaStepTime:
    """Two linear ranges split at ``split_tokens`` total tokens (which belong to the lower one)."""

    KIND: ClassVar[str] = "niyama"

    split_tokens: int
    short: NiyamaRange
    long: NiyamaRange
    evidence: Evidence

    @property
    def slopes(self) -> None:
        """Not affine: the rate of context changes at the split, and work enters as past tokens."""
        return

    def batch_seconds(self, prefill_tokens: int, decode_tokens: int, decode_context_tokens: float,
                      prefill_context_tokens: float) -> float:
        """The artefact's own formula, in its own five features (the total is derived)."""
        total = prefill_tokens + decode_tokens
        rates = self.short if total <= self.split_tokens else self.long
        return (rates.base_s + rates.total_token_s * total
                + rates.prefill_token_s * prefill_tokens + rates.decode_token_s * decode_tokens
                + rates.decode_context_s * decode_context_tokens
                + rates.prefill_context_s * prefill_context_tokens)

    def seconds(self, prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        """Point estimate in seconds.

        The context of the prompt is recovered from the attention work, exactly for a single chunk.
        """
        past = attention_work / prefill_tokens - 0.5 * prefill_tokens if prefill_tokens else 0.0
        return self.batch_seconds(prefill_tokens, decode_seqs, context_tokens, max(past, 0.0))

    def predict(self, features: StepFeatures) -> StepTime:
        """The estimate with interval and parts."""
        prefill, work, decodes, context = features
        total_s = self.seconds(prefill, work, decodes, context)
        no_context_s = self.seconds(prefill, work, decodes, 0)
        dense_s = self.batch_seconds(prefill, decodes, 0, 0)
        parts = {"dense": dense_s, "prefill_attention": no_context_s - dense_s,
                 "decode_attention": total_s - no_context_s}
        return self.evidence.step_time(features, total_s, parts)

    @staticmethod
    def coefficient(name: str, value: Any, where: str) -> "int | NiyamaRange":
        """A field of a saved document."""
        if name == "split_tokens":
            return int(read_number(value, where))
        numbers = read_numbers(list(value.values()) if isinstance(value, Mapping) else value, where)
        expected = len(fields(NiyamaRange))
        if len(numbers) != expected:
            raise InputError(f"{where}: {len(numbers)} numbers; expected {expected}")
        return NiyamaRange(*numbers)
