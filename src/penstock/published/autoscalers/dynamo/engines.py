"""Fitted steps and means of one group's engines."""

from collections import deque

from penstock.policy.scale.protocol import GroupFacts, StepSeconds
from penstock.policy.scale.values import SeenGroup, Totals
from penstock.published.autoscalers.dynamo.load import Worker
from penstock.published.autoscalers.dynamo.rates import Engine, bootstrap
from penstock.published.autoscalers.dynamo.regression import (
    MOST_SAMPLES,
    Sample,
    StepRegression,
)
from penstock.published.autoscalers.lengths import Lengths


class _Mean:
    """Mean of the last values, without zeros before the first other value."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=MOST_SAMPLES)

    def add(self, value: float) -> None:
        """Add a value."""
        if value or self._values:
            self._values.append(value)

    @property
    def value(self) -> float:
        """The mean, 0 without values."""
        return sum(self._values) / len(self._values) if self._values else 0.0


class SeenEngines:
    """Fits the steps of one group's engines. Dynamo's engines report single steps; here the
    counters of an interval give the mean step of the interval."""

    def __init__(self, facts: GroupFacts, step_s: StepSeconds | None) -> None:
        self.decode_tokens = _Mean()
        self.step_prefill_tokens = _Mean()
        self.num_first_tokens = 0
        self._facts = facts
        self._step_s = step_s
        self._regression = StepRegression()
        self._before: tuple[float, Totals] | None = None

    def observe(self, group: SeenGroup, lengths: Lengths, now_s: float) -> None:
        """Add the mean step since the last observation."""
        if self._step_s is not None and lengths.output_tokens > 0.0:
            for sample in bootstrap(self._facts, self._step_s, lengths):
                self._regression.add(sample)
            self._step_s = None
        totals, before = group.totals, self._before
        if totals is None or group.num_ready == 0:
            return
        self._before = (now_s, totals)
        self.num_first_tokens = sum(totals.ttft)
        used = [one.gauges for one in group.of("ready") if one.gauges is not None]
        kv_tokens = [one.kv_used_share * self._facts.kv_total_tokens for one in used]
        for gauges, tokens in zip(used, kv_tokens, strict=True):
            if gauges.num_running:
                self.decode_tokens.add(tokens / gauges.num_running)
        num_gaps = sum(totals.tpot) - sum(before[1].tpot) if before else 0
        if before is None or not kv_tokens or num_gaps <= 0:
            return
        if totals.tpot_sum_s is None or before[1].tpot_sum_s is None:
            return
        step_s = (totals.tpot_sum_s - before[1].tpot_sum_s) / num_gaps
        computed = (totals.prompt_tokens - totals.cached_tokens) - (
            before[1].prompt_tokens - before[1].cached_tokens)
        num_steps = group.num_ready * (now_s - before[0]) / step_s if step_s > 0.0 else 0.0
        if num_steps > 0.0:
            prefill = max(0.0, computed / num_steps)
            self.step_prefill_tokens.add(prefill)
            self._regression.add(Sample(prefill, sum(kv_tokens) / len(kv_tokens), step_s))

    def engine(self) -> Engine | None:
        """Return the engine with its fit, None where there is none."""
        plane = self._regression.plane()
        if plane is None or not self._facts.step_tokens:
            return None
        return Engine(plane, self._facts.step_tokens, self._facts.kv_total_tokens,
                      self._facts.max_num_seqs)


def workers_of(group: SeenGroup, kv_total_tokens: int) -> list[Worker] | None:
    """Return the load of the ready engines, None where any is unknown.

    Prompts count as waiting while requests wait: then nearly all that are unanswered do.
    """
    found = []
    for one in group.of("ready"):
        if one.gauges is None or one.inflight_tokens is None:
            return None
        found.append(Worker(float(one.inflight_tokens if one.gauges.num_waiting else 0),
                            one.gauges.kv_used_share * kv_total_tokens))
    return found
