"""Representative states of each replica at a given rate."""

from dataclasses import dataclass

import numpy as np

from penstock.perf.queueing.batch import Array, QueueBatch
from penstock.perf.queueing.chain import Occupancy, OpenChain

# Cumulative shares of time, by ascending number in service. Between two of these edges, one state
# stands for all. The edges are dense at the top, where latencies are long.
_EDGES = np.array([0.0, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.78, 0.85, 0.9, 0.94, 0.965, 0.98,
                   0.99, 0.995, 0.998, 0.9995, 1.0])


@dataclass(frozen=True, slots=True)
class States:
    """J states per replica with their shares of time; every field but the last is (B, J).

    State 0 is the empty replica. The last state is the full replica, in which arrivals wait for a
    slot. By PASTA, an arrival finds a state with the probability ``share``.
    """

    share: Array
    in_service: Array
    decode_step_s: Array
    prompt_s: Array
    prompt_steps: Array
    alone_steps: Array
    prompts_per_step: Array
    context_sd_s: Array
    decodes: Array
    rate_per_s: Array  # (B, 1)

    @property
    def mean_step_s(self) -> Array:
        """The mean step: a decode step and the time of the prompts that come meanwhile, (B, J)."""
        return self.decode_step_s / np.maximum(1.0 - self.rate_per_s * self.prompt_s, 0.02)


def open_chain(batch: QueueBatch) -> OpenChain:
    """The chain of a batch, with the stable slots of each row."""
    return OpenChain(batch.rate_per_s, batch.stable_slots)


def representative_states(batch: QueueBatch, occupancy: Occupancy, rates: Array) -> States:
    """The empty replica, the states in the middles of the shares of time, and the full replica."""
    probabilities = occupancy.probabilities
    slots = batch.stable_slots
    rows = np.arange(len(slots))
    full = probabilities[rows, slots.astype(np.intp)]
    empty = probabilities[:, 0]
    between = np.maximum(1.0 - full - empty, 0.0)
    inside = probabilities.copy()
    inside[:, 0] = 0.0
    inside[rows, slots.astype(np.intp)] = 0.0
    cumulative = np.cumsum(inside, axis=1) / np.maximum(inside.sum(axis=1), 1e-300)[:, None]
    middles = (_EDGES[1:] + _EDGES[:-1]) / 2.0
    # All rows are joined to one sorted array, each row lifted above the one before, and searched at
    # once.
    lifted = (np.minimum(cumulative, 1.0) + 2.0 * rows[:, None]).ravel()
    found = np.searchsorted(lifted, (middles[None, :] + 2.0 * rows[:, None]).ravel())
    number = found.reshape(len(rows), -1) - rows[:, None] * probabilities.shape[1]
    number = np.clip(number, 1, np.maximum(slots - 1.0, 1.0)[:, None])
    number = np.concatenate([np.zeros((len(rows), 1)), number, slots[:, None]], axis=1)
    share = np.concatenate(
        [empty[:, None], between[:, None] * np.diff(_EDGES)[None, :], full[:, None]], axis=1)
    column = np.maximum(number - 1.0, 0.0).astype(np.intp)
    decode_s, prompt_s, steps, alone, together, sd = (
        np.take_along_axis(curve, column, axis=1) for curve in (
            batch.decode_step_s, batch.prompt_s, batch.prompt_steps, batch.alone_steps,
            batch.prompts_per_step, batch.context_sd_s))
    idle = number == 0
    answer = (batch.output_tokens - 1.0)[:, None]
    return States(
        share, number, np.where(idle, batch.empty_step_s[:, None], decode_s), prompt_s, steps,
        alone, together, np.where(idle, 0.0, sd), number * answer / (steps + answer),
        rates[:, None])
