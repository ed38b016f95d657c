"""Time to first token: the waits of an arrival in each state, and the mixture over states.

The state that an arrival finds (PASTA) and the exponential wait for a slot are exact for the chain.
Everything else is approximate. An arrival waits for the running step, for prompts ahead of it, and
for its own prompt's steps:

- Prompts wait like customers of b servers that start together, where b prompts fit one step. With
  b = 1 this is an M/G/1 queue with vacations (the decode steps); its wait is that of M/G/1 plus a
  residual vacation (Fuhrmann and Cooper 1985). For b > 1, Sakasegawa's (1977) probability of
  waiting replaces it.
- A Poisson number of prompts joins the same step, and each lengthens the step for the others.
- Bursts and unequal sizes scale waits by half the sum of their squared coefficients of variation
  (Kingman 1961; Allen and Cunneen for several servers). Their effect on the number in service is
  left out.
- The sum in each state is a shifted gamma distribution with the same mean and variance.
"""

import numpy as np

from penstock.perf.queueing.batch import Array, QueueBatch
from penstock.perf.queueing.mixture import GammaMixture
from penstock.perf.queueing.states import States

_ALMOST_ONE = 0.9995


def first_token(batch: QueueBatch, states: States, full_rate: Array) -> GammaMixture:
    """The distribution of TTFT over states. ``full_rate`` is mu at all slots, shape (B,)."""
    own_s = states.alone_steps * states.decode_step_s + states.prompt_s
    varying_s = own_s - states.decode_step_s
    scv = batch.prompt_scv[:, None]
    # Equal prompts take at least their own time; unequal prompts take at least one step.
    shift = states.decode_step_s + varying_s * np.maximum(0.0, 1.0 - np.sqrt(scv))
    mean, variance = own_s - shift, scv * varying_s**2
    for more, spread in (_step_under_way(batch, states), _same_step(batch, states),
                         _prompts_ahead(batch, states), _slot(batch, states, full_rate)):
        mean, variance = mean + more, variance + spread
    return GammaMixture(states.share, shift, mean, variance)


def slot_wait_s(batch: QueueBatch, rates: Array, full_rate: Array) -> Array:
    """Mean wait of arrivals that find every slot occupied, shape (B,).

    Departures from a full replica are taken to be Poisson, so the wait is exponential. The factor
    of variability is one half for Poisson arrivals and equal answers, and more for bursts.
    """
    factor = (batch.arrivals_scv + batch.output_scv) / 2.0
    return factor / np.maximum(full_rate - rates, 1e-12)


def _sharing(states: States) -> Array:
    """0 where a step carries at most one prompt, towards 1 where it carries many."""
    return 1.0 - 1.0 / states.prompts_per_step


def _found_step(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """Mean and variance of the step that runs at an arrival (long steps are found more often)."""
    load = np.minimum(states.rate_per_s * states.prompt_s, _ALMOST_ONE)
    prompts = states.rate_per_s * states.mean_step_s
    each = states.prompt_s**2 * (1.0 + batch.prompt_scv[:, None])
    variance = _sharing(states) * each * prompts / (1.0 - load**2)
    mean = states.decode_step_s + _sharing(states) * (states.mean_step_s - states.decode_step_s)
    return mean + variance / np.maximum(mean, 1e-12), variance


def _step_under_way(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """The remaining time of the running step, uniformly distributed; 0 on an idle replica."""
    mean, variance = _found_step(batch, states)
    runs = np.where(states.in_service > 0.0, 1.0, 0.0)
    return runs * mean / 2.0, runs * (mean**2 / 12.0 + variance / 3.0)


def _same_step(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """The time of other prompts that arrived during the same step and share the next step."""
    mean, variance = _found_step(batch, states)
    others = np.minimum(states.rate_per_s * mean, states.prompts_per_step - 1.0)
    runs = np.where(states.in_service > 0.0, 1.0, 0.0)
    spread = others * (1.0 + batch.prompt_scv[:, None]) + states.rate_per_s**2 * variance
    return (runs * others * states.prompt_s, runs * spread * states.prompt_s**2)


def _prompts_ahead(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """The wait for prompts that the step budget holds back: M/G/b whose servers start together.

    Unequal prompts share a step worse, because a long prompt fills a step alone.
    """
    varying = batch.prompt_scv[:, None]
    together = states.prompts_per_step
    busy_s = states.prompt_steps * states.decode_step_s + together * states.prompt_s
    load = np.minimum(states.rate_per_s * busy_s / together, _ALMOST_ONE)
    # A last chunk shares its step only where a prompt waits to take the rest of the budget.
    unshared = (states.alone_steps - states.prompt_steps) * (1.0 - load)
    service_s = busy_s + unshared * states.decode_step_s
    load = np.minimum(states.rate_per_s * service_s / together, _ALMOST_ONE)
    sharers = 1.0 + (together - 1.0) / (1.0 + varying)
    waits = load ** (np.sqrt(2.0 * (sharers + 1.0)) - 1.0)
    factor = (batch.arrivals_scv[:, None] + varying) / 2.0
    when_waiting = factor * service_s / (together * (1.0 - load))
    # The second moment of a positive wait in M/G/1 (Takacs), for prompts with the third moment of a
    # lognormal distribution.
    second = (2.0 * load + (1.0 - load) * 4.0 / 3.0 * (1.0 + varying)) * when_waiting**2
    mean = waits * when_waiting
    return mean, np.maximum(waits * second - mean**2, 0.0)


def _slot(batch: QueueBatch, states: States, full_rate: Array) -> tuple[Array, Array]:
    """The wait for a slot: exponential in the full state, 0 in all others."""
    wait_s = slot_wait_s(batch, states.rate_per_s[:, 0], full_rate)
    mean = np.zeros_like(states.share)
    mean[:, -1] = wait_s
    return mean, mean**2
