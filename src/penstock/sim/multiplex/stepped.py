"""Batch times from step times and the requests' true lengths, for models without a stated batch
time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.multiplex.beliefs import LoadBelief
from penstock.policy.multiplex.values import Batch, BatchTime
from penstock.sim.multiplex.machine import HostReads, Took, Variation


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Durations of a model's batches: ``line`` by their size where it is stated, else from
    ``steps`` and ``extra_s``."""

    steps: StepTimeModel
    line: BatchTime | None = None
    extra_s: float = 0.0


class Lengths(NamedTuple):
    """Prompt and output tokens by request, which a policy never sees."""

    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]


class SteppedMachine:
    """Devices of one host. ``loads`` has the true load times, ``costs`` the true batch costs by
    device and model.

    A static batch computes all its prompts, then steps of all its requests until the longest answer
    has ended. With continuous batching, only loads are used.
    """

    def __init__(self, loads: LoadBelief, costs: Sequence[Sequence[BatchCost]], lengths: Lengths,
                 variation: Variation) -> None:
        self._reads = HostReads(loads, variation)
        self._costs = costs
        self._lengths = lengths
        self._variation = variation
        self.device_of: dict[int, int] = {}

    def load(self, device: int, model: int, now_s: float) -> Took:
        return Took(self._reads.load_s(device, model, now_s))

    def prefetch(self, model: int, now_s: float) -> Took:
        return self._reads.prefetch(model, now_s)

    def batch(self, device: int, batch: Batch, now_s: float) -> Took:
        """Return the duration of a batch. Afterwards ``device_of`` has the device of each
        request."""
        cost, num = self._costs[device][batch.model], len(batch.requests)
        for request in batch.requests:
            self.device_of[request.request_id] = device
        if cost.line is not None:
            return Took(self._variation.load(cost.line.seconds(num)))
        prompts = [self._lengths.prompt_tokens[one.request_id] for one in batch.requests]
        longest = max(self._lengths.output_tokens[one.request_id] for one in batch.requests)
        seconds = cost.steps.seconds(sum(prompts), sum(one * one for one in prompts) / 2, 0, 0)
        context = sum(prompts) + num * longest // 2
        seconds += longest * cost.steps.seconds(0, 0.0, num, context)
        return Took(self._variation.load(seconds + cost.extra_s))
