"""Replicas as queues: the duration of their steps by number of requests in service."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from penstock.core.errors import InputError

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QueueBatch:
    """B replicas, each with curves over n = 1..N requests in service.

    Columns beyond a row's ``slots`` are not read.

    - ``decode_step_s`` is the time of a step without prompts.
    - ``prompt_s`` is the time that a prompt adds to all steps that carry it together.
    - ``prompt_steps`` is the number of whole step budgets that a prompt fills (1 or more);
      ``alone_steps`` is the number of its steps when no other prompt shares them.
    - ``prompts_per_step`` is the number of prompts that one step can carry (1 or more).
    - ``context_sd_s`` is the standard deviation of a step, because the contexts of the requests in
      service have unequal lengths.
    - ``prompt_rate_per_s`` is the most prompts per second that the step budget admits.
    - The squared coefficients of variation (scv) are those of gaps between arrivals (1 = Poisson),
      of prompts and of answers (0 = all equal).
    """

    slots: Array  # (B,) most requests in service; 0 = not even one fits
    rate_per_s: Array  # (B, N) completions with n in service
    decode_step_s: Array  # (B, N)
    prompt_s: Array  # (B, N)
    prompt_steps: Array  # (B, N)
    alone_steps: Array  # (B, N)
    prompts_per_step: Array  # (B, N)
    context_sd_s: Array  # (B, N)
    empty_step_s: Array  # (B,) a step's time before any token: the decode step of an idle replica
    prompt_rate_per_s: Array  # (B,)
    output_tokens: Array  # (B,)
    arrivals_scv: Array  # (B,)
    prompt_scv: Array  # (B,)
    output_scv: Array  # (B,)

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def stable_slots(self) -> Array:
        """The number in service with the highest completion rate, shape (B,).

        It is ``slots`` unless the rate falls. Where the rate falls, more requests in service only
        slow each other down (a trap of the published mode).
        """
        if self.rate_per_s.shape[1] == 0:
            return self.slots
        rates = np.where(self._inside, self.rate_per_s, 0.0)
        best = rates.max(axis=1)
        last = np.maximum(self.slots - 1.0, 0.0).astype(np.intp)[:, None]
        at_all = np.take_along_axis(rates, last, axis=1)[:, 0]
        # A difference in the last digit is no reason for fewer slots.
        fewest = rates.argmax(axis=1) + 1.0
        return np.where(at_all >= best * (1.0 - 1e-9), self.slots, fewest)

    @property
    def _inside(self) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
        number = np.arange(1, self.rate_per_s.shape[1] + 1)[None, :]
        return number <= self.slots[:, None]

    @property
    def capacity_per_s(self) -> Array:
        """The rate below which the queue is stable, shape (B,); 0 where nothing fits."""
        best = np.where(self._inside, self.rate_per_s, 0.0).max(axis=1, initial=0.0)
        let_through = np.where(self.slots > 0, self.prompt_rate_per_s, 0.0)
        return np.asarray(np.minimum(best, let_through))

    def take(self, rows: Sequence[int] | Array) -> "QueueBatch":
        """Some of the rows, in the order given."""
        index = np.asarray(rows, dtype=np.intp)
        return QueueBatch(*(getattr(self, field.name)[index] for field in fields(self)))

    def with_slots(self, slots: Array) -> "QueueBatch":
        """The same replicas with at most that many slots; ``slots`` never grow."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return QueueBatch(**{**values, "slots": np.minimum(slots, self.slots)})


def stack(batches: Sequence[QueueBatch]) -> QueueBatch:
    """All rows of several batches, one after another; curves are padded to the longest."""
    if not batches:
        raise InputError("queues: found none; expected at least one")
    width = max(batch.rate_per_s.shape[1] for batch in batches)

    def joined(name: str) -> Array:
        parts = [getattr(batch, name) for batch in batches]
        if parts[0].ndim == 1:
            return np.concatenate(parts)
        padded = [np.pad(part, ((0, 0), (0, width - part.shape[1])), mode="edge")
                  if part.shape[1] else np.ones((len(part), width)) for part in parts]
        return np.concatenate(padded)

    return QueueBatch(*(joined(field.name) for field in fields(QueueBatch)))
