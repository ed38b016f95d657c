"""Outcome of placed replicas on arrivals: times of answers, and busy time of devices."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.definitions import FloatColumn
from penstock.plan.place.options import Forecast, PlacedReplicas, shared_of
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.values import Start, Waiting
from penstock.sim.exclusive import Dispatch, Served, serve


@dataclass(frozen=True, slots=True)
class Outcome:
    """One entry per arrival: its deployment, seconds from arrival to answer (infinite where the
    deployment has no seat) and device-seconds (0 there)."""

    deployment: NDArray[np.int64]
    e2e_s: FloatColumn
    device_s: FloatColumn

    @property
    def answered(self) -> float:
        """Share of the arrivals that get an answer."""
        return float(np.isfinite(self.e2e_s).mean())

    def attainment(self, limits_s: Sequence[float]) -> float:
        """Share of the arrivals that are answered within their deployment's limit; who has no seat
        misses."""
        return float((self.e2e_s <= np.array(limits_s)[self.deployment]).mean())


def outcome_of(seats: Sequence[PlacedReplicas | None], forecast: Forecast,
               overhead_s: float = 0.0) -> Outcome:
    """Serves the arrivals by a queue per device set; None is a deployment that is left out."""
    deployment = np.array(forecast.deployment, dtype=np.int64)
    places = [place for place, seat in enumerate(seats) if seat is not None]
    held = [seat for seat in seats if seat is not None]
    rows = np.flatnonzero(np.isin(deployment, places))
    own = np.searchsorted(np.array(places, dtype=np.int64), deployment[rows])
    requests = [Waiting(index, int(place), forecast.arrival_s[row]) for index, (row, place)
                in enumerate(zip(rows.tolist(), own.tolist(), strict=True))]

    def of_start(start: Start) -> float:
        way = held[start.deployment].way
        return way.work_s * way.growth_of(len(start.request_ids))

    served = serve(requests, DeviceSetQueue(shared_of(held)), of_start,
                   Dispatch([overhead_s] * len(held)))
    e2e_s, used_s = np.full(len(deployment), np.inf), np.zeros(len(deployment))
    if held:
        e2e_s[rows], used_s[rows] = served.e2e_s, device_s(served, own, held)
    return Outcome(deployment, e2e_s, used_s)


def device_s(served: Served, deployment: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
             seats: Sequence[PlacedReplicas]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Device-seconds by request: work times devices, shared by those that started together."""
    devices = np.array([seat.way.num_devices for seat in seats], dtype=np.float64)
    return np.asarray(served.work_s * devices[deployment] / served.batch)
