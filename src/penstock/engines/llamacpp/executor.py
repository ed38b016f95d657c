"""Carries out step plans: one batch per step, decodes and parts of prompts together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.core.step import StepPlan
from penstock.engines.llamacpp.device import LlamaDevice, Row


@dataclass(slots=True)
class _Sequence:
    """The tokens of one request, prompt and answer, and its slot in the cache (-1: none)."""

    token_ids: list[int]
    temperature: float
    rng: np.random.Generator
    place: int = -1


class PlanExecutor:
    """Keeps the tokens of live requests and computes planned steps.

    At most ``max_num_seqs`` requests may hold KV at once, which the scheduler guarantees.
    """

    def __init__(self, device: LlamaDevice, max_num_seqs: int) -> None:
        self._device = device
        self._free = list(range(max_num_seqs))
        self._sequences: dict[int, _Sequence] = {}

    def begin(self, request_id: int, prompt: Sequence[int], temperature: float,
              seed: int) -> None:
        """Add a request. With a ``temperature`` of 0 the likeliest token is taken."""
        self._sequences[request_id] = _Sequence(list(prompt), temperature,
                                                np.random.default_rng(seed))

    def preempt(self, request_id: int) -> None:
        """Free a request's KV cache and keep its tokens."""
        sequence = self._sequences[request_id]
        if sequence.place >= 0:
            self._device.forget(sequence.place)
            self._free.append(sequence.place)
            sequence.place = -1

    def end(self, request_id: int) -> None:
        """Remove a request."""
        if request_id in self._sequences:
            self.preempt(request_id)
            del self._sequences[request_id]

    def run(self, plan: StepPlan) -> dict[int, int]:
        """Compute a step. Returns the next token of every decode and of every completed prompt."""
        rows: list[Row] = []
        wanted: list[int] = []
        for request_id in plan.decode_ids:
            sequence = self._sequences[request_id]
            position = len(sequence.token_ids) - 1
            rows.append(Row(sequence.token_ids[position], position, sequence.place, True))
            wanted.append(request_id)
        for chunk in plan.chunks:
            sequence = self._sequences[chunk.request_id]
            if sequence.place < 0:
                sequence.place = self._free.pop()
            end = chunk.past + chunk.tokens
            rows += [Row(sequence.token_ids[position], position, sequence.place,
                         chunk.last and position == end - 1)
                     for position in range(chunk.past, end)]
            if chunk.last:
                wanted.append(chunk.request_id)
        tokens = {}
        for request_id, logits in zip(wanted, self._device.run(rows), strict=True):
            sequence = self._sequences[request_id]
            token = chosen(logits, sequence.temperature, sequence.rng)
            sequence.token_ids.append(token)
            tokens[request_id] = token
        return tokens


def chosen(logits: NDArray[np.float32], temperature: float, rng: np.random.Generator) -> int:
    """Sample a token from softmax(logits / temperature); at 0 take the likeliest, the first of
    equals."""
    if temperature <= 0:
        return int(np.argmax(logits))
    # The largest of logits / temperature + Gumbel noise is distributed as the softmax.
    return int(np.argmax(logits / temperature + rng.gumbel(size=len(logits))))
