"""Inter-token latency: gaps between an answer's tokens, over all tokens that are computed.

In a state with D decodes, D tokens come per step, so a state counts with its share of time times
D over its mean step. Within a state a gap is a step: the decodes' own time, normally spread as the
contexts of those in service are, and what prompts add to it. Approximate: the number of prompts
in a step is Poisson with the mean that the arrival rate asks for (at most one chunk per step when
a prompt fills the budget), independent from step to step.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from penstock.perf.queueing.batch import QueueBatch
from penstock.perf.queueing.chunks import Array
from penstock.perf.queueing.states import States

# Steps with 0..4 prompts are told apart; a mean above _MANY is a normal distribution instead.
_MOST_TOLD_APART = 5
_MANY = 2.5


@dataclass(frozen=True, slots=True)
class NormalMixture:
    """Normal distributions with weights, all of shape (B, J, K)."""

    weight: Array
    mean: Array
    sd: Array

    def cdf(self, time_s: Array) -> Array:
        """P(T <= time) for times of shape (B,)."""
        score = (time_s[:, None, None] - self.mean) / self.sd
        return np.asarray((self.weight * ndtr(score)).sum(axis=(1, 2)))

    def average(self) -> Array:
        """E[T], shape (B,)."""
        return np.asarray((self.weight * self.mean).sum(axis=(1, 2)))

    def longest(self) -> Array:
        """A time that next to nothing exceeds, shape (B,)."""
        reach = np.where(self.weight > 0.0, self.mean + 6.0 * self.sd, 0.0)
        return np.asarray(reach.max(axis=(1, 2)))


def token_gaps(batch: QueueBatch, states: States) -> NormalMixture:
    """The distribution of ITL over states and prompts per step."""
    tokens = states.share * states.decodes / np.maximum(states.mean_step_s, 1e-12)
    total = tokens.sum(axis=1, keepdims=True)
    tokens = tokens / np.where(total > 0.0, total, 1.0)
    units = states.rate_per_s * states.prompt_steps * states.mean_step_s
    one_at_most = states.prompts_per_step <= 1.5
    units = np.where(one_at_most, np.minimum(units, 1.0), units)
    unit_s = states.prompt_s / states.prompt_steps
    weights, means, sds = _prompts_in_step(units, unit_s, one_at_most)
    mean = states.decode_step_s[:, :, None] + means
    sd = np.sqrt(sds**2 + states.context_sd_s[:, :, None] ** 2 + (1e-3 * mean) ** 2 + 1e-24)
    return NormalMixture(tokens[:, :, None] * weights, mean, sd)


def _prompts_in_step(units: Array, unit_s: Array,
                     one_at_most: Array) -> tuple[Array, Array, Array]:
    """Weights, added times and their sd for steps with 0, 1, ... prompts; arrays (B, J, K)."""
    number = np.arange(_MOST_TOLD_APART, dtype=float)[None, None, :]
    factorial = np.array([1.0, 1.0, 2.0, 6.0, 24.0])[None, None, :]
    mean = units[:, :, None]
    weights = np.exp(-mean) * mean**number / factorial
    weights[:, :, -1] = np.maximum(0.0, 1.0 - weights[:, :, :-1].sum(axis=2))
    single = np.concatenate([1.0 - mean, mean, np.zeros((*units.shape, _MOST_TOLD_APART - 2))], 2)
    weights = np.where(one_at_most[:, :, None], single, weights)
    added = number * unit_s[:, :, None]
    many = (mean > _MANY) & ~one_at_most[:, :, None]
    weights = np.where(many, number == 0.0, weights)
    added = np.where(many, mean * unit_s[:, :, None], added)
    sd = np.where(many, np.sqrt(mean) * unit_s[:, :, None], 0.0)
    return weights, added, sd
