"""The birth-death chain of a replica: Poisson arrivals, service rates by number in service."""

from dataclasses import dataclass

import numpy as np

from penstock.perf.queueing.batch import Array


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Stationary means of a batch of chains, each of shape (B,), and the state probabilities."""

    probabilities: Array  # (B, states); 0 beyond a row's last state
    throughput: Array  # requests served per unit of time
    in_system: Array
    in_service: Array


class OpenChain:
    """Chains with endless room to wait: nothing is lost, and rates must be below mu(slots).

    p(n) is proportional to the product over j = 1..n of rate / mu(min(j, slots)). It is summed in
    logarithms, so thousands of states neither overflow nor vanish. ``service_rates`` has shape
    (B, max slots), its column n - 1 being mu(n); entries beyond a row's slots are not read. States
    beyond the slots are geometric and summed in closed form, so the length of the queue costs
    nothing.
    """

    def __init__(self, service_rates: Array, slots: Array) -> None:
        self._number = np.arange(service_rates.shape[1] + 1, dtype=float)[None, :]
        self._slots = slots
        inside = self._number[:, 1:] <= slots[:, None]
        logs = np.where(inside, np.log(np.where(inside, service_rates, 1.0)), np.inf)
        self._log_service = np.concatenate(
            [np.zeros((len(slots), 1)), np.cumsum(logs, axis=1)], axis=1)
        last = np.maximum(slots - 1.0, 0.0).astype(np.intp)[:, None]
        self._full_rate = np.take_along_axis(service_rates, last, axis=1)[:, 0]

    @property
    def full_rate(self) -> Array:
        """Completions per unit of time with all slots occupied, shape (B,)."""
        return self._full_rate

    def occupancy(self, rates: Array) -> Occupancy:
        """The stationary chain; column N of ``probabilities`` holds all states from N slots on."""
        logs = np.log(rates)[:, None] * self._number - self._log_service
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        full = self._number == self._slots[:, None]
        load = rates / self._full_rate
        weights = np.where(full, weights / (1.0 - load)[:, None], weights)
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        in_service = (probabilities * self._number).sum(axis=1)
        waiting = np.where(full, probabilities, 0.0).sum(axis=1) * load / (1.0 - load)
        return Occupancy(probabilities, rates, in_service + waiting, in_service)
