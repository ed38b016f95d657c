"""Inter-token latency: gaps between an answer's tokens, over all tokens that are computed.

A state with D decodes yields D tokens per step, so its weight is its share of time times D over
its mean step. Within a state a gap is a step: the time of the decodes, which varies with the
contexts in service, and the time of prompts, which varies with their sizes. Approximate: the
number of prompts in a step is Poisson, with the mean that the arrival rate gives and independent
from step to step. A step has at most one chunk where a prompt fills the budget.
"""

import numpy as np
import numpy.typing as npt

from penstock.perf.queueing.batch import Array, QueueBatch
from penstock.perf.queueing.mixture import GammaMixture
from penstock.perf.queueing.states import States

Mask = npt.NDArray[np.bool_]

# Steps with 0..4 prompts count one by one; a mean above _MANY is a normal distribution instead.
_NUM_COUNTED = 5
_MANY = 2.5
_SDS_BELOW = 8.0


def token_gaps(batch: QueueBatch, states: States) -> GammaMixture:
    """The distribution of ITL over states and prompts per step."""
    tokens = states.share * states.decodes / np.maximum(states.mean_step_s, 1e-12)
    total = tokens.sum(axis=1, keepdims=True)
    tokens = tokens / np.where(total > 0.0, total, 1.0)
    units = states.rate_per_s * states.prompt_steps * states.mean_step_s
    one_at_most = states.prompts_per_step <= 1.5
    units = np.where(one_at_most, np.minimum(units, 1.0), units)
    unit_s = states.prompt_s / states.prompt_steps
    # A prompt that fills its steps is cut into equal chunks, whatever its length.
    unit_scv = np.where(one_at_most, 0.0, batch.prompt_scv[:, None])
    weights, added, variance = _prompts_in_step(units, unit_s, unit_scv, one_at_most)
    decode_s = states.decode_step_s[:, :, None]
    # The gamma distribution starts where almost no step is shorter. So it is nearly normal for
    # steps without prompts, and skewed by prompts.
    sd = np.sqrt(states.context_sd_s[:, :, None] ** 2 + (1e-3 * decode_s) ** 2)
    shift = np.maximum(decode_s - _SDS_BELOW * sd, 0.0)
    mixture = (tokens[:, :, None] * weights, np.broadcast_to(shift, weights.shape),
               decode_s - shift + added, variance + sd**2)
    return GammaMixture(*(part.reshape(len(batch), -1) for part in mixture))


def _prompts_in_step(units: Array, unit_s: Array, unit_scv: Array,
                     one_at_most: Mask) -> tuple[Array, Array, Array]:
    """Probabilities of steps with 0, 1, ... prompts, the added times, and their variances; all of
    shape (B, J, K)."""
    number = np.arange(_NUM_COUNTED, dtype=float)[None, None, :]
    factorial = np.array([1.0, 1.0, 2.0, 6.0, 24.0])[None, None, :]
    mean, unit = units[:, :, None], unit_s[:, :, None]
    weights = np.exp(-mean) * mean**number / factorial
    weights[:, :, -1] = np.maximum(0.0, 1.0 - weights[:, :, :-1].sum(axis=2))
    single = np.where(number == 0.0, 1.0 - mean, np.where(number == 1.0, mean, 0.0))
    weights = np.where(one_at_most[:, :, None], single, weights)
    variance = number * unit**2 * unit_scv[:, :, None]
    many = (mean > _MANY) & ~one_at_most[:, :, None]
    weights = np.where(many, np.where(number == 0.0, 1.0, 0.0), weights)
    added = np.where(many, mean, number) * unit
    variance = np.where(many, mean * unit**2 * (1.0 + unit_scv[:, :, None]), variance)
    return weights, added, variance
