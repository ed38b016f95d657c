"""Load of the ready replicas at the time at which requests arrived."""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from penstock.policy.scale.history import History, mean_since, rate_since
from penstock.policy.scale.values import SeenDemand

LOAD_S = 60.0
"""Time over which a load is a mean. Requests count to the load in whose middle they arrived."""

DELAY_S = 120.0
"""Time after which requests that ended are counted. Those that miss in a crowd end while the
replicas that were ordered for the crowd still start; at once, they would ask for more."""

_KEEP_S = 3600.0
"""Time after which the load is forgotten at which a request arrived."""

_QUEUE = 0.2
"""Share of the wait at saturated replicas from which the queue of an overload is still there."""

_GROWN = 1.1
"""Ratio of ready replicas from which the load of a minute is not that of each of them."""


class Ended(NamedTuple):
    """Requests of a class that ended, and those of them that missed, at ``at_s``. They arrived at
    this load, when a request brought this work in the mean."""

    service_class: str
    at_s: float
    load: float
    num_ended: int
    num_missed: int
    work: float = 1.0


class ReadyLoad(NamedTuple):
    """Work that has arrived since the start of the run, work that waits, work that the ready
    replicas compute in a second, their number, and the mean work of the requests that arrived
    lately."""

    arrived: float
    waiting: float
    capacity_per_s: float
    num_ready: int = 1
    work_of_request: float = 1.0


class _Kept(NamedTuple):
    """Requests that ended, and the time at which about the last of them arrived."""

    ended: Ended
    arrived_s: float


class ArrivalLoads:
    """Counts requests that end to the load at which they arrived.

    A load is the rate of arrivals and of waiting work over the rate at which the ready replicas'
    queues would begin to grow. Requests that wait in a crowd end at the lower load of the replicas
    that were started for the crowd. So requests that arrive while the queue of an overload is still
    there are counted to that overload. ``wait_s`` is the wait at saturated replicas.
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._work = History[float](LOAD_S)
        self._capacity = History[float](LOAD_S)
        self._loads = History[float](_KEEP_S)
        self._overload = 0.0  # largest load since a queue began
        self._num_ready = History[int](_KEEP_S)
        self._work_of_request = History[float](_KEEP_S)
        self._arrivals: dict[str, deque[tuple[float, int]]] = {}
        self._seen: dict[str, SeenDemand] = {}  # before, by class
        self._kept: deque[_Kept] = deque()

    def add(self, ready: ReadyLoad, demand: Sequence[SeenDemand], now_s: float) -> list[Ended]:
        """Add what is seen now. Return requests that have ended for long enough and whose load is
        known."""
        self._add_load(ready, now_s)
        for one in demand:
            before, self._seen[one.service_class] = self._seen.get(one.service_class, one), one
            arrived_s = self._arrived_s(one, now_s)
            num_ended = one.num_ended - before.num_ended
            if num_ended > 0:
                self._kept.append(_Kept(Ended(
                    one.service_class, now_s, 0.0, num_ended,
                    num_ended - (one.num_met - before.num_met)), arrived_s))
        found = []
        while self._kept and self._kept[0].ended.at_s <= now_s - DELAY_S:
            kept = self._kept.popleft()
            load = self._load_of(kept)
            work = self._work_of_request.at(kept.arrived_s + 0.5 * LOAD_S)
            if load is not None and work is not None:
                found.append(kept.ended._replace(load=load, work=work[1]))
        return found

    def _add_load(self, ready: ReadyLoad, now_s: float) -> None:
        """Add the load of the last minute, where it is known for so long."""
        self._work.add(now_s, ready.arrived)
        self._capacity.add(now_s, ready.capacity_per_s)
        self._num_ready.add(now_s, ready.num_ready)
        self._work_of_request.add(now_s, ready.work_of_request)
        rate = rate_since(self._work, now_s - LOAD_S, now_s)
        capacity_per_s = mean_since(self._capacity, now_s - LOAD_S) or 0.0
        if rate is None or self._work.span_s < LOAD_S - 1e-9 or capacity_per_s <= 0.0:
            return
        load = (rate + ready.waiting / LOAD_S) / capacity_per_s
        queued = ready.waiting > _QUEUE * self._wait_s * rate
        self._overload = max(load, self._overload if queued else 0.0)
        self._loads.add(now_s, self._overload)

    def _arrived_s(self, one: SeenDemand, now_s: float) -> float:
        """Return about when the last of the ended requests of a class arrived: when as many had
        arrived as have ended by now."""
        arrivals = self._arrivals.setdefault(one.service_class, deque())
        arrivals.append((now_s, one.num_arrived))
        while len(arrivals) > 1 and arrivals[0][1] < one.num_ended:
            arrivals.popleft()
        return arrivals[0][0]

    def _load_of(self, kept: _Kept) -> float | None:
        """Return the load at which requests arrived, None where it is not known."""
        found = self._loads.at(kept.arrived_s + 0.5 * LOAD_S)
        if found is None or found[0] > kept.arrived_s + LOAD_S:
            return None
        # Those with long answers arrived earlier than the mean, by as much again.
        residence_s = kept.ended.at_s - kept.arrived_s
        since_s = kept.arrived_s - residence_s
        if self._grew(since_s - LOAD_S, kept.arrived_s + 0.5 * LOAD_S):
            return None
        before = max(self._loads.within(since_s, kept.arrived_s), default=0.0)
        return max(found[1], before) if before >= 1.0 else found[1]

    def _grew(self, from_s: float, to_s: float) -> bool:
        """Whether many replicas became ready in this time. Those that were there before still
        compute the requests of a higher load, while the new ones are empty."""
        least = inf
        for num in self._num_ready.within(from_s, to_s):
            least = min(least, num)
            if num > _GROWN * least:
                return True
        return False
