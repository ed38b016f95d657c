"""Batches from step times and the requests' own lengths, for models of which no line is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from penstock.engine.sim.residency.machine import Took, Variation
from penstock.perf.protocol import StepTimeModel
from penstock.policy.residency.beliefs import LoadBelief
from penstock.policy.residency.values import Batch, BatchTime

_REPORT = 1000  # requests between two notes of progress


@dataclass(frozen=True, slots=True)
class BatchCost:
    """What batches of a model take: ``line`` in their size where that is stated, else ``steps``."""

    steps: StepTimeModel
    line: BatchTime | None = None


class Lengths(NamedTuple):
    """Tokens of prompt and of answer by request: known here, never to a policy."""

    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]


class Began(NamedTuple):
    """On which device a request began, and how long the prompts of its batch took."""

    device: int
    prefill_s: float


class SteppedMachine:
    """Devices of one host. ``loads`` says what its loads really take.

    A static batch computes all its prompts, then steps of all its requests until the longest answer
    is there. On ``continuous`` devices the steps are shared with whatever runs there when the batch
    begins, which is not looked at again until it ends. ``on_progress`` is told now and then how
    many requests have begun.
    """

    def __init__(self, loads: LoadBelief, costs: Sequence[BatchCost], lengths: Lengths,
                 variation: Variation, *, continuous: bool = False,
                 on_progress: Callable[[int], None] | None = None) -> None:
        self._loads = loads
        self._costs = costs
        self._lengths = lengths
        self._variation = variation
        self._continuous = continuous
        self._running: dict[int, list[tuple[float, int, int, int]]] = {}
        self._reading: dict[int, float] = {}
        self._on_progress = on_progress
        self.began: dict[int, Began] = {}

    def load(self, device: int, model: int, now_s: float) -> Took:
        """A load of a model that is being read ahead waits for what is left of that."""
        rest_s = max(0.0, self._reading.pop(model, 0.0) - now_s)
        seconds = rest_s + self._variation.load(self._loads.load_s(device, model))
        self._loads.loaded(device, model)
        return Took(seconds)

    def prefetch(self, model: int, now_s: float) -> Took:
        seconds = self._variation.load(self._loads.prefetch_s(model))
        self._reading = {one: until_s for one, until_s in self._reading.items() if until_s > now_s}
        self._reading[model] = now_s + seconds
        self._loads.prefetched(model)
        return Took(seconds)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        """``began`` has it then, by request."""
        cost, num = self._costs[batch.model], len(batch.requests)
        prompts = [self._lengths.prompt_tokens[one.request_id] for one in batch.requests]
        longest = max(self._lengths.output_tokens[one.request_id] for one in batch.requests)
        context = sum(prompts) + num * longest // 2
        beside = self._beside(device, now_s) if self._continuous else []
        if cost.line is not None:
            prefill_s, seconds = 0.0, cost.line.seconds(num)
        else:
            prefill_s = cost.steps.seconds(sum(prompts), sum(one * one for one in prompts) / 2,
                                           0, 0)
            seconds = prefill_s + longest * self._step_s(batch.model, num, context, beside)
        seconds = self._variation.load(seconds)
        if self._continuous:
            heappush(self._running[device], (now_s + seconds, batch.model, num, context))
        for request in batch.requests:
            self.began[request.request_id] = Began(device, prefill_s)
        if self._on_progress is not None and len(self.began) % _REPORT < num:
            self._on_progress(len(self.began))
        return Took(seconds)

    def _beside(self, device: int, now_s: float) -> list[tuple[float, int, int, int]]:
        running = self._running.setdefault(device, [])
        while running and running[0][0] <= now_s:
            heappop(running)
        return running

    def _step_s(self, model: int, num: int, context: int,
                beside: Sequence[tuple[float, int, int, int]]) -> float:
        """A step of everything on the device: models one after the other, each all at once."""
        together = {model: (num, context)}
        for _, other, more, tokens in beside:
            before = together.get(other, (0, 0))
            together[other] = (before[0] + more, before[1] + tokens)
        return sum(self._costs[one].steps.seconds(0, 0.0, seqs, tokens)
                   for one, (seqs, tokens) in together.items())
