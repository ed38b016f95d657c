"""The birth-death chain of a replica: Poisson arrivals, service rates by number in service."""

from dataclasses import dataclass

import numpy as np

from penstock.perf.queueing.chunks import Array


@dataclass(frozen=True, slots=True)
class Occupancy:
    """Stationary means of a batch of chains, each of shape (B,), and the state probabilities."""

    probabilities: Array  # (B, states); 0 beyond a row's last state
    throughput: Array  # requests served per unit of time
    in_system: Array
    in_service: Array

    @property
    def response(self) -> Array:
        """Mean time from arrival to end, by Little's law."""
        return self.in_system / self.throughput

    @property
    def service(self) -> Array:
        """Mean time in service, by Little's law."""
        return self.in_service / self.throughput


class FiniteChain:
    """Chains with ``slots`` servers and ``room`` places to wait; arrivals beyond both are lost.

    p(n) is proportional to the product over j = 1..n of rate / mu(min(j, slots)). It is summed in
    logarithms, so thousands of states neither overflow nor vanish. ``service_rates`` has shape
    (B, max slots), its column n - 1 being mu(n); entries beyond a row's slots are not read.
    """

    def __init__(self, service_rates: Array, slots: Array, room: Array) -> None:
        states = np.arange(int(np.max(slots + room)) + 1, dtype=float)
        self._number = states[None, :]
        self._in_service = np.minimum(self._number, slots[:, None])
        columns = np.maximum(self._in_service[:, 1:] - 1.0, 0.0).astype(np.intp)
        logs = np.log(np.take_along_axis(service_rates, columns, axis=1))
        self._log_service = np.concatenate(
            [np.zeros((len(slots), 1)), np.cumsum(logs, axis=1)], axis=1)
        self._log_service[self._number > (slots + room)[:, None]] = np.inf
        self._last = (slots + room).astype(np.intp)[:, None]

    def occupancy(self, rates: Array) -> Occupancy:
        """The stationary chain at arrival rates of shape (B,), all positive."""
        logs = np.log(rates)[:, None] * self._number - self._log_service
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        # What is not lost, summed from the states with room: 1 - p(full) would cancel.
        full = np.take_along_axis(probabilities, self._last, axis=1)[:, 0]
        accepted = np.where(full < 0.5, 1.0 - full,
                            np.where(self._number < self._last, probabilities, 0.0).sum(axis=1))
        in_system = (probabilities * self._number).sum(axis=1)
        in_service = (probabilities * self._in_service).sum(axis=1)
        return Occupancy(probabilities, rates * accepted, in_system, in_service)


class OpenChain:
    """The same chain with endless room to wait: nothing is lost, and rates must be below mu(slots).

    States beyond the slots are geometric, so they are summed in closed form and the cost does not
    depend on how long the queue grows.
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
        """Completions per unit of time with all slots taken, shape (B,)."""
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
