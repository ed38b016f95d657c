"""The published chain of a replica: a bound on waiting requests, beyond which arrivals are lost."""

import numpy as np

from penstock.perf.queueing.batch import Array
from penstock.perf.queueing.chain import Occupancy


class FiniteChain:
    """Chains with ``slots`` servers and ``room`` places to wait; arrivals beyond both are lost.

    State probabilities and ``service_rates`` are as in ``OpenChain``.
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
