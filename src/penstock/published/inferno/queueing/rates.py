"""Published service rates: how fast n requests in one batch complete, and what a mean costs.

Both generations answer for a whole batch of queues: parameters are columns of shape (B, 1), the
number in service has shape (B, n). Times are ms, rates are requests per ms.

All arithmetic is in 32-bit floats, as in the published program: where a search ends at a jump of
the chunk count, or a wait is a small difference of long times, the last digits decide. Slopes of
these functions need the 64 bits of ``precision``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from penstock.perf.queueing.parameters import DecodePrefillTimes, IterationTimes, QueueSpec
from penstock.published.inferno.queueing.chunks import chunk_counts

Floats = npt.NDArray[np.floating[Any]]
Precision = type[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class OneChunkTimes(IterationTimes):
    """Parameters of the second generation as queue-analysis v0.4 to v0.6 takes them."""


class ServiceTimes(Protocol):
    """Service times of a batch of queues as a function of the number in service."""

    def rates(self, in_service: Floats) -> Floats:
        """Completions per ms with so many in service, shape (B, n)."""

    def latencies(self, in_service: Floats, service_ms: Floats,
                  max_batch: Floats) -> tuple[Floats, Floats]:
        """Prefill time and inter-token latency in ms at the mean state, shapes (B,)."""

    @property
    def ttft_has_decode(self) -> bool:
        """Whether TTFT counts the first decode step besides wait and prefill."""


class DecodePrefillService:
    """First generation: prefill and O - 1 decode steps, all at the same batch size."""

    ttft_has_decode = False

    def __init__(self, queues: Sequence[QueueSpec], precision: Precision = np.float32) -> None:
        times = [queue.times for queue in queues if isinstance(queue.times, DecodePrefillTimes)]
        self.alpha = _column([each.alpha_ms for each in times], precision)
        self.beta = _column([each.beta_ms for each in times], precision)
        self.gamma = _column([each.gamma_ms for each in times], precision)
        self.delta = _column([each.delta_ms for each in times], precision)
        self.input_tokens = _column([queue.size.input_tokens for queue in queues], precision)
        self.steps = _column([queue.size.output_tokens - 1.0 for queue in queues], precision)

    def prefill_ms(self, in_service: Floats) -> Floats:
        """Linear in tokens times batch, and nothing for an empty prompt."""
        linear = self.gamma + self.delta * self.input_tokens * in_service
        return np.where(self.input_tokens > 0.0, linear, np.float32(0.0))

    def rates(self, in_service: Floats) -> Floats:
        decode = self.alpha + self.beta * in_service
        return np.asarray(in_service / (self.prefill_ms(in_service) + self.steps * decode))

    def latencies(self, in_service: Floats, service_ms: Floats,
                  max_batch: Floats) -> tuple[Floats, Floats]:
        """At the batch size whose service time is the mean one (it inverts the service time)."""
        fixed = self.gamma + self.alpha * self.steps
        slope = (self.delta * self.input_tokens + self.beta * self.steps)[:, 0]
        above = service_ms - fixed[:, 0]
        divisor = np.where(slope > 0.0, slope, np.float32(1.0))
        none = np.float32(0.0)
        batch = np.where(slope > 0.0, above / divisor, np.where(above > 0.0, max_batch, none))
        batch = np.clip(batch, 0.0, max_batch)
        itl = self.alpha[:, 0] + self.beta[:, 0] * batch
        return self.prefill_ms(batch[:, None])[:, 0], itl


class IterationService:
    """Second generation: every iteration carries a share of everybody's chunks and decodes."""

    ttft_has_decode = True

    def __init__(self, queues: Sequence[QueueSpec], precision: Precision = np.float32) -> None:
        times = [queue.times for queue in queues if isinstance(queue.times, IterationTimes)]
        self.alpha = _column([each.alpha_ms for each in times], precision)
        self.beta = _column([each.beta_ms for each in times], precision)
        self.gamma = _column([each.gamma_ms for each in times], precision)
        self.budget_tokens = _column([each.max_step_tokens for each in times], precision)
        self.input_tokens = _column([queue.size.input_tokens for queue in queues], precision)
        self.output_tokens = _column([queue.size.output_tokens for queue in queues], precision)

    def chunks(self, in_service: Floats) -> Floats:
        """Chunks per prompt with so many in service."""
        found = chunk_counts(in_service.astype(float), *(column.astype(float) for column in (
            self.input_tokens, self.output_tokens, self.budget_tokens)))
        return found.astype(self.alpha.dtype)

    def prompt_ms(self, chunks: Floats) -> Floats:
        """Work of one prompt: its tokens, and its growing KV cache read once per chunk."""
        return np.asarray((self.beta + self.gamma * (chunks + 1.0) / 2.0) * self.input_tokens)

    def step_share_ms(self, chunks: Floats) -> Floats:
        """Mean work that one request adds to an iteration."""
        context = self.input_tokens + (self.output_tokens + 1.0) / 2.0
        answer = self.output_tokens * (self.beta + self.gamma * context)
        return np.asarray((self.prompt_ms(chunks) + answer) / (chunks + self.output_tokens))

    def iteration_ms(self, in_service: Floats, chunks: Floats) -> Floats:
        """Mean duration of an iteration."""
        return np.asarray(self.alpha + in_service * self.step_share_ms(chunks))

    def prefill_ms(self, in_service: Floats, chunks: Floats) -> Floats:
        """A prompt's own work, and the others' share in each of its chunks' iterations."""
        others = np.maximum(0.0, self.alpha + (in_service - 1.0) * self.step_share_ms(chunks))
        return np.asarray(chunks * others + self.prompt_ms(chunks), dtype=self.alpha.dtype)

    def itl_ms(self, in_service: Floats, chunks: Floats) -> Floats:
        """Closed-form inter-token latency of one request among ``in_service``."""
        others = np.maximum(0.0, self.alpha + (in_service - 1.0) * self.step_share_ms(chunks))
        context = self.input_tokens + (self.output_tokens + 1.0) / 2.0
        return np.asarray(others + self.beta + self.gamma * context)

    def residence_ms(self, in_service: Floats, chunks: Floats) -> Floats:
        """Time in service: chunks + O iterations."""
        return np.asarray((chunks + self.output_tokens) * self.iteration_ms(in_service, chunks))

    def rates(self, in_service: Floats) -> Floats:
        return np.asarray(in_service / self.residence_ms(in_service, self.chunks(in_service)))

    def latencies(self, in_service: Floats, service_ms: Floats,
                  max_batch: Floats) -> tuple[Floats, Floats]:
        """At the mean number in service; its chunk count is that of the nearest whole batch."""
        state = in_service[:, None]
        whole = np.clip(np.floor(state + np.float32(0.5)), 1.0, max_batch[:, None])
        prefill = self.prefill_ms(state, self.chunks(whole))[:, 0]
        return prefill, (service_ms - prefill) / self.output_tokens[:, 0]


class OneChunkService(IterationService):
    """Second generation before chunks: a prompt is computed in one iteration, and a request's own
    work counts beside its share in the batch's.

    Source: queue-analysis v0.4 to v0.6; almost the same in llm-d's WVA ``pkg/analyzer``.
    """

    def shared_ms(self, in_service: Floats) -> Floats:
        """Mean duration of an iteration of so many requests."""
        tokens = (self.input_tokens + self.output_tokens) / (self.output_tokens + 1.0)
        context = self.input_tokens + self.output_tokens / 2.0
        return np.asarray(self.alpha + in_service * (self.beta * tokens + self.gamma * context))

    def whole_prompt_ms(self, in_service: Floats) -> Floats:
        """Iteration with a whole prompt, and nothing for an empty one."""
        prompt = self.shared_ms(in_service) + (self.beta + self.gamma) * self.input_tokens
        return np.where(self.input_tokens > 0.0, prompt, np.float32(0.0))

    def rates(self, in_service: Floats) -> Floats:
        own = self.beta + self.gamma * (self.input_tokens + (self.output_tokens + 1.0) / 2.0)
        decode = self.shared_ms(in_service) + own
        total = self.whole_prompt_ms(in_service) + self.output_tokens * decode
        return np.asarray(in_service / total)

    def latencies(self, in_service: Floats, service_ms: Floats,
                  max_batch: Floats) -> tuple[Floats, Floats]:
        """At the mean number in service."""
        prefill = self.whole_prompt_ms(in_service[:, None])[:, 0]
        return prefill, (service_ms - prefill) / self.output_tokens[:, 0]


def service_times(queues: Sequence[QueueSpec],
                  precision: Precision = np.float32) -> ServiceTimes:
    """The service times of queues that are all of one generation."""
    if isinstance(queues[0].times, DecodePrefillTimes):
        return DecodePrefillService(queues, precision)
    if isinstance(queues[0].times, OneChunkTimes):
        return OneChunkService(queues, precision)
    return IterationService(queues, precision)


def _column(values: Sequence[float], precision: Precision) -> Floats:
    return np.array(values, dtype=precision)[:, None]
