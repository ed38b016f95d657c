"""Builds the curves of a ``QueueBatch`` from a step-time model or from Inferno's parameters."""

import math
from collections.abc import Callable

import numpy as np

from penstock.core.errors import InputError
from penstock.perf.queueing.batch import Array, QueueBatch
from penstock.perf.queueing.parameters import (
    POISSON,
    DecodePrefillTimes,
    IterationTimes,
    QueueSpec,
    RequestSize,
    Variability,
)
from penstock.perf.step_time.protocol import StepTimeModel

# Curves are exact at this many numbers in service and interpolated in between.
_NUM_POINTS = 33
_MOST_CHUNKS = 64

Seconds = Callable[[int, float, int, int], float]


def kv_tokens_per_request(size: RequestSize, output_scv: float = 0.0) -> float:
    """Mean KV tokens of a request in service, over time: its prompt and half of its answer.

    Longer answers stay longer, so the answers that are found running are longer than the mean.
    """
    return size.input_tokens + (size.output_tokens * (1.0 + output_scv) + 1.0) / 2.0


def from_step_model(model: StepTimeModel, size: RequestSize, max_batch: int, *,
                    max_step_tokens: int = 8192, kv_tokens: float | None = None,
                    variability: Variability = POISSON) -> QueueBatch:
    """One replica with the step times of ``model``.

    ``kv_tokens`` is the size of the KV cache: no more requests are in service than fit on average.
    """
    return _from_seconds(model.seconds, size, max_batch, max_step_tokens, kv_tokens, variability)


def from_spec(queue: QueueSpec, *, kv_tokens: float | None = None,
              variability: Variability = POISSON) -> QueueBatch:
    """One replica with Inferno's parameters. ``max_queue`` is ignored: waiting is not bounded.

    First generation: the published service rates, with the prefill as one step. Second generation:
    steps are computed from the parameters. A prompt takes as few chunks as the budget allows, first
    come, first served; the published formula cuts it into more and smaller chunks as n grows.
    """
    if isinstance(queue.times, DecodePrefillTimes):
        return _from_decode_prefill(queue.times, queue, kv_tokens, variability)
    return _from_seconds(iteration_seconds(queue.times), queue.size, queue.max_batch,
                         queue.times.max_step_tokens, kv_tokens, variability)


def iteration_seconds(times: IterationTimes) -> Seconds:
    """Inferno's iteration times as a step-time function (arguments as in StepTimeModel)."""
    def seconds(prefill_tokens: int, attention_work: float, decode_seqs: int,
                context_tokens: int) -> float:
        # A chunk's work is chunk * (past + chunk / 2), and it reads past + chunk tokens.
        read = attention_work / prefill_tokens + prefill_tokens / 2.0 if prefill_tokens else 0.0
        tokens = prefill_tokens + decode_seqs
        total_ms = times.alpha_ms + times.beta_ms * tokens + times.gamma_ms * (
            context_tokens + read)
        return total_ms / 1000.0

    return seconds


def fitting_batch(max_batch: int, size: RequestSize, kv_tokens: float | None,
                  output_scv: float) -> int:
    """``max_batch``, or the number of requests that the KV cache holds on average where it is less;
    0 where not one fits."""
    if kv_tokens is None:
        return max_batch
    return min(max_batch, int(kv_tokens / kv_tokens_per_request(size, output_scv)))


def _from_seconds(seconds: Seconds, size: RequestSize, max_batch: int, budget_tokens: int,
                  kv_tokens: float | None, vary: Variability) -> QueueBatch:
    if max_batch < 1 or budget_tokens < 2:
        raise InputError(f"max_batch {max_batch}, max_step_tokens {budget_tokens}: expected at "
                         "least 1 and 2")
    steps = _Steps(seconds, size, budget_tokens, vary)
    slots = fitting_batch(max_batch, size, kv_tokens, vary.output_scv)
    number = np.arange(1.0, max(slots, 1) + 1.0)
    points = np.unique(np.round(np.geomspace(1.0, number[-1], _NUM_POINTS)))
    at = np.array([steps.at(float(point)) for point in points])
    decode_s, prompt_s, prompt_steps, alone_steps, together, sd = (
        np.interp(number, points, at[:, column]) for column in range(at.shape[1]))
    answer_steps = size.output_tokens - 1.0
    rate = number / ((prompt_steps + answer_steps) * decode_s + number * prompt_s)
    return _one_row(slots, (rate, decode_s, prompt_s, prompt_steps, alone_steps, together, sd),
                    seconds(0, 0.0, 0, 0), steps.prompt_rate(), size, vary)


class _Steps:
    """Means of steps with a given number of requests in service."""

    def __init__(self, seconds: Seconds, size: RequestSize, budget_tokens: int,
                 vary: Variability) -> None:
        self.seconds = seconds
        self.size = size
        self.budget_tokens = budget_tokens
        self.context = kv_tokens_per_request(size, vary.output_scv)
        self.prompt_scv = vary.prompt_scv
        # At a random moment, an answer has reached a uniformly distributed part of its length.
        second = size.output_tokens**2 * (1.0 + vary.output_scv)
        self.context_variance = (second * (1.0 + 3.0 * vary.output_scv) / 12.0
                                 + vary.prompt_scv * size.input_tokens**2)

    def at(self, number: float) -> tuple[float, ...]:
        """The values of QueueBatch's curves at one number in service, from ``decode_step_s`` on."""
        decodes = min(number, self._decodes(number))
        room = max(self.budget_tokens - decodes, 1.0)
        decode_s = self._decode_s(decodes)
        prompt_s, steps = self._prompt(decodes, room)
        slope = self._decode_s(decodes, 1.01 * self.context) - decode_s
        sd = slope / (0.01 * self.context) * np.sqrt(self.context_variance / max(decodes, 1.0))
        together = max(1.0, room / max(self.size.input_tokens, 1.0))
        return decode_s, prompt_s, steps, self._alone_steps(steps), together, sd

    def _alone_steps(self, steps: float) -> float:
        """The steps of a prompt alone. The last chunk takes a whole step: ``steps`` is rounded up
        for equal prompts, and half a step is added on average for unequal ones."""
        whole = float(np.ceil(steps - 1e-9))
        return whole if steps <= 1.0 or self.prompt_scv == 0.0 else steps + 0.5

    def prompt_rate(self) -> float:
        """Prompts per second when every step is full of prompts and decodes."""
        tokens = self.size.input_tokens + self.size.output_tokens - 1.0
        per_step = self.budget_tokens / max(tokens, 1.0)
        decodes = per_step * (self.size.output_tokens - 1.0)
        room = max(self.budget_tokens - decodes, 1.0)
        prompt_s, _ = self._prompt(decodes, room)
        return per_step / (self._decode_s(decodes) + per_step * prompt_s)

    def _decodes(self, number: float) -> float:
        """The requests in service that decode; the others are in their prompt's steps."""
        answer = self.size.output_tokens - 1.0
        room = max(self.budget_tokens - number, 1.0)
        steps = max(1.0, self.size.input_tokens / room)
        return number * answer / (steps + answer)

    def _decode_s(self, decodes: float, context: float | None = None) -> float:
        """The time of a step with so many decodes, interpolated between whole numbers."""
        context = self.context if context is None else context
        low = int(decodes)
        at_low = self.seconds(0, 0.0, low, round(low * context))
        if low == decodes:
            return at_low
        at_high = self.seconds(0, 0.0, low + 1, round((low + 1) * context))
        return at_low + (decodes - low) * (at_high - at_low)

    def _prompt(self, decodes: float, room: float) -> tuple[float, float]:
        """The seconds that a mean prompt adds to its steps, and the number of these steps."""
        tokens = round(self.size.input_tokens)
        if tokens == 0:
            return 0.0, 1.0
        # A lower bound on the chunk keeps the curve quick to build.
        whole, running = max(1, int(room), -(-tokens // _MOST_CHUNKS)), round(decodes)
        context = round(running * self.context)
        base = self.seconds(0, 0.0, running, context)
        added, past = 0.0, 0
        while past < tokens:
            chunk = min(whole, tokens - past)
            # Work is quadratic in the prompt, so unequal prompts have more work on average.
            work = chunk * (past + chunk / 2.0) * (1.0 + self.prompt_scv)
            added += self.seconds(chunk, work, running, context) - base
            past += chunk
        return added, max(1.0, tokens / room)


def _from_decode_prefill(times: DecodePrefillTimes, queue: QueueSpec, kv_tokens: float | None,
                         vary: Variability) -> QueueBatch:
    slots = fitting_batch(queue.max_batch, queue.size, kv_tokens, vary.output_scv)
    number = np.arange(1.0, max(slots, 1) + 1.0)
    decode_s = (times.alpha_ms + times.beta_ms * number) / 1000.0
    prefill_s = (times.gamma_ms + times.delta_ms * queue.size.input_tokens * number) / 1000.0
    if queue.size.input_tokens == 0:
        prefill_s = np.zeros_like(number)
    rate = number / (prefill_s + (queue.size.output_tokens - 1.0) * decode_s)
    ones = np.ones_like(number)
    # A prefill is a step of its own, in place of a decode step.
    added_s = np.maximum(0.0, prefill_s - decode_s)
    curves = (rate, decode_s, added_s, ones, ones, ones * max(slots, 1), np.zeros_like(number))
    return _one_row(slots, curves, float(decode_s[0]), math.inf, queue.size, vary)


def _one_row(slots: int, curves: tuple[Array, ...], empty_step_s: float, prompt_rate: float,
             size: RequestSize, vary: Variability) -> QueueBatch:
    """A batch of one, from its curves in the order of QueueBatch."""
    rate, decode, prompt, steps, alone, together, sd = (curve[None, :] for curve in curves)
    return QueueBatch(
        np.array([float(slots)]), rate, decode, prompt, steps, alone, together, sd,
        np.array([empty_step_s]), np.array([prompt_rate]), np.array([size.output_tokens]),
        np.array([vary.arrivals_scv]), np.array([vary.prompt_scv]), np.array([vary.output_scv]))
