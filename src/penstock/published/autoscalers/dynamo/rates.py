"""Latencies and rates of one engine, from the fitted duration of its steps.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/perf_model/agg.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, StepSeconds
from penstock.published.autoscalers.dynamo.regression import Sample, StepPlane
from penstock.published.autoscalers.lengths import Lengths

_BOOTSTRAP = 4
"""Loads between none and the most of each input that the bootstrap covers."""


class EngineRate(NamedTuple):
    """Requests per second of one engine, and the latencies at that rate."""

    per_s: float
    ttft_s: float
    itl_s: float


@dataclass(frozen=True, slots=True)
class Engine:
    """Engine with the fit of its steps: the most tokens and sequences of a step, and its cache."""

    plane: StepPlane
    step_tokens: int
    kv_total_tokens: int
    max_num_seqs: int | None

    def ttft_s(self, queued_tokens: float, lengths: Lengths, kv_tokens: float) -> float:
        """Return the time of the prompts that wait and a further mean prompt, in full steps."""
        left = (queued_tokens + lengths.prompt_tokens) * (1.0 - lengths.hit_share)
        found_s = 0.0
        for _ in range(ceil(left / self.step_tokens)):
            chunk = min(left, float(self.step_tokens))
            found_s += self.plane.seconds(chunk, kv_tokens)
            left -= chunk
        return found_s

    def best_rate(self, lengths: Lengths, ttft_s: float, itl_s: float) -> EngineRate | None:
        """Return the rate of the largest batch that keeps both objectives. Where a single request
        keeps none, the rate is that of one. None without lengths."""
        prompt, output = lengths.prompt_tokens, lengths.output_tokens
        if prompt <= 0.0 or output <= 0.0:
            return None
        best: EngineRate | None = None
        for batch in range(1, self._most_batch(prompt, output) + 1):
            kv_tokens = batch * (prompt + output / 2.0)
            prefill = min(batch * prompt * (1.0 - lengths.hit_share) / output,
                          float(self.step_tokens))
            step_s = self.plane.seconds(prefill, kv_tokens)
            found = EngineRate(batch / (output * step_s),
                               self.ttft_s(int(prefill), Lengths(prompt, output), int(kv_tokens)),
                               step_s)
            late = found.itl_s > itl_s or found.ttft_s > ttft_s
            if not late or best is None:
                best = found
            if late:
                break
        return best

    def _most_batch(self, prompt: float, output: float) -> int:
        """Return the largest batch that the cache holds, the engine admits, and whose prompts fit
        in its steps."""
        most = max(1, int(self.kv_total_tokens / max(1.0, prompt + output / 2.0)))
        most = min(most, self.max_num_seqs or most, self.step_tokens - 1)
        return max(1, min(most, int(self.step_tokens - prompt / output)))


def bootstrap(facts: GroupFacts, step_s: StepSeconds, lengths: Lengths) -> Iterator[Sample]:
    """Yield believed steps over all loads, as AIConfigurator's estimates begin Dynamo's fit."""
    if facts.step_tokens is None:
        return
    context = max(1.0, lengths.prompt_tokens + lengths.output_tokens / 2.0)
    most_kv = min(float(facts.kv_total_tokens), context * (facts.max_num_seqs or facts.step_tokens))
    for kv_part in range(_BOOTSTRAP + 1):
        kv_tokens = most_kv * kv_part / _BOOTSTRAP
        seqs = round(kv_tokens / context)
        for part in range(_BOOTSTRAP + 1):
            prefill = max(0, facts.step_tokens - seqs) * part // _BOOTSTRAP
            if prefill or seqs:
                work = prefill * min(prefill, lengths.prompt_tokens) / 2.0
                yield Sample(prefill, kv_tokens, step_s(
                    StepFeatures(prefill, work, seqs, int(kv_tokens))))
