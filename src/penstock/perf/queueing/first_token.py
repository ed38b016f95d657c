"""Time to first token: what an arrival waits for in each state, and the mixture over states.

Exact for the chain: the state that an arrival finds (PASTA) and the exponential wait for a slot.
Approximate: the rest. An arrival waits for the step under way, for prompts ahead of it, and for its
own prompt's steps:

- prompts wait like customers of b servers that start together, b being the prompts that fit one
  step; with b = 1 this is an M/G/1 queue with vacations (the decode steps), for which the wait is
  that of M/G/1 plus a residual vacation (Fuhrmann and Cooper 1985). For b > 1 Sakasegawa's (1977)
  probability of waiting stands in;
- prompts that join the same step lengthen it for each other, a Poisson number of them;
- burstiness and variability scale waits by half the sum of their squared coefficients of
  variation (Kingman 1961; Allen and Cunneen for several servers). Their effect on the number in
  service is left out;
- in each state the sum is a shifted gamma distribution with the right mean and variance.
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
    # Equal prompts take no less than their own time; of unequal ones, only one step is sure.
    shift = states.decode_step_s + varying_s * np.maximum(0.0, 1.0 - np.sqrt(scv))
    mean, variance = own_s - shift, scv * varying_s**2
    for more, spread in (_step_under_way(batch, states), _same_step(batch, states),
                         _prompts_ahead(batch, states), _slot(batch, states, full_rate)):
        mean, variance = mean + more, variance + spread
    return GammaMixture(states.share, shift, mean, variance)


def slot_wait_s(batch: QueueBatch, rates: Array, full_rate: Array) -> Array:
    """Mean wait of those who find every slot taken, shape (B,).

    Departures from a full replica are taken to be Poisson, so the wait is exponential. The factor
    for variability halves it for Poisson arrivals and equal answers, and lengthens it for bursts.
    """
    factor = (batch.arrivals_scv + batch.output_scv) / 2.0
    return factor / np.maximum(full_rate - rates, 1e-12)


def _sharing(states: States) -> Array:
    """0 when a step carries one prompt at most, towards 1 when it carries many."""
    return 1.0 - 1.0 / states.prompts_per_step


def _found_step(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """Mean and variance of the step that an arrival finds under way (long ones more often)."""
    load = np.minimum(states.rate_per_s * states.prompt_s, _ALMOST_ONE)
    prompts = states.rate_per_s * states.mean_step_s
    each = states.prompt_s**2 * (1.0 + batch.prompt_scv[:, None])
    variance = _sharing(states) * each * prompts / (1.0 - load**2)
    mean = states.decode_step_s + _sharing(states) * (states.mean_step_s - states.decode_step_s)
    return mean + variance / np.maximum(mean, 1e-12), variance


def _step_under_way(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """Return the rest of the running step: a uniform part of it; zero when the replica is idle."""
    mean, variance = _found_step(batch, states)
    runs = np.where(states.in_service > 0.0, 1.0, 0.0)
    return runs * mean / 2.0, runs * (mean**2 / 12.0 + variance / 3.0)


def _same_step(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """Other prompts that arrived during the same step and so share the next one."""
    mean, variance = _found_step(batch, states)
    others = np.minimum(states.rate_per_s * mean, states.prompts_per_step - 1.0)
    runs = np.where(states.in_service > 0.0, 1.0, 0.0)
    spread = others * (1.0 + batch.prompt_scv[:, None]) + states.rate_per_s**2 * variance
    return (runs * others * states.prompt_s, runs * spread * states.prompt_s**2)


def _prompts_ahead(batch: QueueBatch, states: States) -> tuple[Array, Array]:
    """Prompts that the step budget holds back: the wait of M/G/b with servers in step.

    Unequal prompts share a step worse, for a long one fills it alone.
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
    # Second moment of the wait in M/G/1, given that there is one (Takacs), for prompts whose third
    # moment is a lognormal's.
    second = (2.0 * load + (1.0 - load) * 4.0 / 3.0 * (1.0 + varying)) * when_waiting**2
    mean = waits * when_waiting
    return mean, np.maximum(waits * second - mean**2, 0.0)


def _slot(batch: QueueBatch, states: States, full_rate: Array) -> tuple[Array, Array]:
    """Waiting for a slot: in the full state only, and exponential there."""
    wait_s = slot_wait_s(batch, states.rate_per_s[:, 0], full_rate)
    mean = np.zeros_like(states.share)
    mean[:, -1] = wait_s
    return mean, mean**2
