"""Simulation of accelerators that serve one start at a time, as MaverIQ's engines do.

A start occupies all devices of its set from its dispatch to its end. The only events are arrivals,
ends of starts and ends of pauses, each processed once in order of time, so runs are exact and
repeatable.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.definitions import FloatColumn
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.policy.queue.values import Start, Waiting
from penstock.sim.in_order import check_in_order


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Delays between dispatch and the engine's work: seconds by deployment, during which the
    devices are occupied; and pauses (from, until) in which no request is dispatched."""

    overhead_s: Sequence[float]
    pauses: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """Columns with an entry per request, in order: times, the device set, the number of requests of
    its start, and the seconds of work of that start. NaN and -1 where it never started."""

    arrival_s: FloatColumn
    start_s: FloatColumn
    end_s: FloatColumn
    work_s: FloatColumn
    set_index: NDArray[np.int64]
    batch: NDArray[np.int64]

    @property
    def e2e_s(self) -> FloatColumn:
        """Seconds from arrival to end."""
        return np.asarray(self.end_s - self.arrival_s)


def serve(requests: Sequence[Waiting], queue: ExclusiveDeviceQueue,
          work_s: Callable[[Start], float], dispatch: Dispatch) -> Served:
    """Serve requests in order of arrival, whose ``request_id`` must be their place. ``work_s``
    returns how long the engine computes for a start.

    Raises InputError for requests out of order.
    """
    columns = _Columns(requests)
    ends: list[tuple[float, int, Start]] = []
    pauses = sorted(dispatch.pauses)
    now_s, following, num_starts, num_requests = -inf, 0, 0, len(requests)
    while True:
        arrival_s = requests[following].arrival_s if following < num_requests else inf
        end_s = ends[0][0] if ends else inf
        over_s = _pause_over_s(pauses, now_s) if queue.num_waiting else inf
        now_s = min(arrival_s, end_s, over_s)
        if now_s == inf:
            return columns.served()
        while ends and ends[0][0] == now_s:
            queue.ended(heappop(ends)[2])
        while following < num_requests and requests[following].arrival_s == now_s:
            queue.add(requests[following])
            following += 1
        if _pause_over_s(pauses, now_s) < inf:
            continue
        while (start := queue.next(now_s)) is not None:
            begins_s = now_s + dispatch.overhead_s[start.deployment]
            seconds = work_s(start)
            heappush(ends, (begins_s + seconds, num_starts, start))
            num_starts += 1
            columns.note(start, begins_s, seconds)


def _pause_over_s(pauses: Iterable[tuple[float, float]], now_s: float) -> float:
    """Return the end of the pause that contains ``now_s``, infinity outside pauses."""
    return max((until_s for from_s, until_s in pauses if from_s <= now_s < until_s), default=inf)


class _Columns:
    """Columns under construction."""

    def __init__(self, requests: Sequence[Waiting]) -> None:
        check_in_order((one.request_id, one.arrival_s) for one in requests)
        num = len(requests)
        self._arrival_s = [request.arrival_s for request in requests]
        self._start_s, self._end_s, self._work_s = [nan] * num, [nan] * num, [nan] * num
        self._set_index, self._batch = [-1] * num, [0] * num

    def note(self, start: Start, begins_s: float, seconds: float) -> None:
        for request_id in start.request_ids:
            self._start_s[request_id] = begins_s
            self._end_s[request_id] = begins_s + seconds
            self._work_s[request_id] = seconds
            self._set_index[request_id] = start.set_index
            self._batch[request_id] = len(start.request_ids)

    def served(self) -> Served:
        arrival_s, start_s, end_s, work_s = (np.array(column, dtype=np.float64) for column in (
            self._arrival_s, self._start_s, self._end_s, self._work_s))
        return Served(arrival_s, start_s, end_s, work_s,
                      np.array(self._set_index, dtype=np.int64),
                      np.array(self._batch, dtype=np.int64))
