"""The wait of each request along a path for a place of its adapter (LoRA).

An adapter takes a place on a replica while any of its requests is started there. A request of an
adapter that has no place waits for one, and later requests may start before it. Adapters without a
place get the next one in the order of their oldest requests. Where waits are bounded, an adapter in
use takes no more requests once the oldest has waited too long (policy/schedule/adapter_prompts.py).
Requests go where their adapter is, else to the replica with the fewest adapters, as by
policy/route/near_adapter.py while replicas are equally loaded. So a popular adapter that its load
spreads over several replicas takes fewer places here than it does there.

A path is followed event by event, since the time that an adapter keeps its place grows with the
requests that wait for it: formulas for M/G/c, with busy periods as service, are far too low where
the places are nearly all taken.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class _Adapter:
    """An adapter on its ``replica`` (-1: on none). The last of its started requests ends at
    ``end_s``. ``rows`` are its requests that wait."""

    __slots__ = ("end_s", "replica", "rows")

    def __init__(self) -> None:
        self.replica = -1
        self.end_s = -inf
        self.rows: list[int] = []


class _Replica:
    """The adapters of a replica: numbers of those ``in_use``, those without a place in order, and
    the one that takes no more requests (-1: none)."""

    __slots__ = ("drained", "in_use", "queue")

    def __init__(self) -> None:
        self.in_use: set[int] = set()
        self.queue: deque[int] = deque()
        self.drained = -1


class AdapterPlaces:
    """Places for ``max_loras`` adapters on each of equal replicas. A request waits ``bound_s``
    before an adapter makes way, None for ever."""

    def __init__(self, num_adapters: int, num_replicas: int, max_loras: int,
                 bound_s: float | None) -> None:
        self._max_loras = max_loras
        self._bound_s = bound_s
        self._adapters = [_Adapter() for _ in range(num_adapters)]
        self._replicas = [_Replica() for _ in range(num_replicas)]
        self._num_wanted = [0] * num_replicas  # adapters in use or waiting
        self._fewest = [(0, number) for number in range(num_replicas)]  # a heap, in part outdated
        heapify(self._fewest)
        self._ends: list[tuple[float, int]] = []  # heaps by adapter, in part outdated
        self._dues: list[tuple[float, int]] = []
        self._at_s: list[float] = []
        self._stay_s: list[float] = []
        self._wait_s: list[float] = []

    def waits_s(self, at_s: Array, stay_s: Array, adapter_index: NDArray[np.int64]) -> Array:
        """Return the wait of each request. Requests arrive at ``at_s``, in order, and stay so long
        once they have started; those with an ``adapter_index`` of -1 need no place."""
        self._at_s, self._stay_s = at_s.tolist(), stay_s.tolist()
        self._wait_s = [0.0] * len(self._at_s)
        for row, number in enumerate(adapter_index.tolist()):
            if number >= 0:
                self._until(self._at_s[row])
                self._arrive(row, number)
        self._until(inf)
        return np.array(self._wait_s)

    def _arrive(self, row: int, number: int) -> None:
        adapter, now_s = self._adapters[number], self._at_s[row]
        if adapter.rows:
            adapter.rows.append(row)
            return
        if adapter.replica < 0:
            adapter.replica = self._place_of_fewest()
            self._count(adapter.replica, 1)
        replica = self._replicas[adapter.replica]
        if number in replica.in_use and number != replica.drained:
            self._start(row, number, now_s)
        elif number not in replica.in_use and len(replica.in_use) < self._max_loras:
            replica.in_use.add(number)
            self._start(row, number, now_s)
        else:
            adapter.rows.append(row)
            replica.queue.append(number)
            self._expect(number, now_s)

    def _start(self, row: int, number: int, now_s: float) -> None:
        adapter, end_s = self._adapters[number], now_s + self._stay_s[row]
        self._wait_s[row] = now_s - self._at_s[row]
        if end_s > adapter.end_s:
            adapter.end_s = end_s
            heappush(self._ends, (end_s, number))

    def _until(self, now_s: float) -> None:
        """Let adapters leave, and waits become too long, up to a moment."""
        ends, dues = self._ends, self._dues
        while ends and (ends[0][0] <= now_s or dues):
            end_s, number = ends[0]
            if self._adapters[number].end_s != end_s:
                heappop(ends)
            elif dues and dues[0][0] <= min(now_s, end_s):
                self._drain(heappop(dues)[1])
            elif end_s <= now_s:
                heappop(ends)
                self._leave(number, end_s)
            else:
                return

    def _leave(self, number: int, now_s: float) -> None:
        """An adapter gives up its place, which the first that waits takes."""
        adapter = self._adapters[number]
        replica = self._replicas[adapter.replica]
        replica.in_use.remove(number)
        if replica.drained == number:
            replica.drained = -1
        adapter.end_s = -inf
        if not adapter.rows:
            self._count(adapter.replica, -1)
            adapter.replica = -1
        if replica.queue:
            first = replica.queue.popleft()
            replica.in_use.add(first)
            rows, self._adapters[first].rows = self._adapters[first].rows, []
            for row in rows:
                self._start(row, first, now_s)
            if replica.queue:
                self._expect(replica.queue[0], now_s)

    def _expect(self, number: int, now_s: float) -> None:
        """Note when the oldest request of an adapter that waits has waited for too long."""
        if self._bound_s is not None:
            due_s = self._at_s[self._adapters[number].rows[0]] + self._bound_s
            heappush(self._dues, (max(due_s, now_s), number))

    def _drain(self, number: int) -> None:
        """Have an adapter make way for one that has waited too long: that which may leave first."""
        adapter = self._adapters[number]
        replica = self._replicas[adapter.replica]
        if adapter.rows and replica.drained < 0 and number == replica.queue[0]:
            replica.drained = min(replica.in_use, key=lambda one: self._adapters[one].end_s)

    def _place_of_fewest(self) -> int:
        """Return the replica with the fewest adapters."""
        while self._num_wanted[self._fewest[0][1]] != self._fewest[0][0]:
            heappop(self._fewest)
        return self._fewest[0][1]

    def _count(self, replica: int, change: int) -> None:
        self._num_wanted[replica] += change
        heappush(self._fewest, (self._num_wanted[replica], replica))


def place_waits_s(at_s: Array, stay_s: Array, adapter_index: NDArray[np.int64], max_loras: int,
                  num_replicas: int, bound_s: float | None) -> Array:
    """Return the wait of each request for a place of its adapter; 0 where all adapters have one."""
    if len(np.unique(adapter_index[adapter_index >= 0])) <= max_loras * num_replicas:
        return np.zeros_like(at_s)
    places = AdapterPlaces(int(adapter_index.max()) + 1, num_replicas, max_loras, bound_s)
    return places.waits_s(at_s, stay_s, adapter_index)
