"""The clock of devices that models take turns on: arrivals, loads, batches, and what was decided.

At an instant, what ends is taken first, then arrivals, then every device with something idle is
asked what it does; last, devices with continuous batching begin their next steps. All times are
seconds from the start of the run.
"""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from math import inf
from typing import NamedTuple

from penstock.core.errors import InputError
from penstock.core.units import PS_PER_S, to_ps
from penstock.policy.multiplex.device import Device, NotPossibleError
from penstock.policy.multiplex.protocol import Residency
from penstock.policy.multiplex.values import Batch, Drop, Load, Prefetch, Queued, Shed, Wait
from penstock.sim.cycles import no_cycle_search
from penstock.sim.in_order import check_in_order
from penstock.sim.multiplex.continuous import Over, Residents
from penstock.sim.multiplex.machine import Machine
from penstock.sim.multiplex.record import Recorder, ResidencyRun

_LOADED, _ENDED, _PREFETCHED, _WAKE, _STEPPED = range(5)
MOST_ACTIONS = 10_000
"""So many actions of one device at one instant are a policy that does not come to an end."""


class _Event(NamedTuple):
    """Compared by time and then by serial number, of which no two have the same."""

    at_s: float
    serial: int
    kind: int
    device: Device
    batch: Batch | None = None
    model: int = -1
    failed: bool = False
    answered_s: float = inf


class ResidencySimulation:
    """One run. ``policy``, ``devices``, ``machine`` and ``residents`` are used up by it.

    ``residents`` are what computes on each device where batching is continuous; without them
    batches are static, and take what ``machine`` says.
    """

    def __init__(self, policy: Residency, devices: Sequence[Device], machine: Machine,
                 residents: Sequence[Residents] = ()) -> None:
        if any(device.continuous != bool(residents) for device in devices) or (
                residents and len(residents) != len(devices)):
            raise InputError(f"{len(devices)} devices and {len(residents)} sets of residents: "
                             "expected one for each continuous device, and no static ones beside")
        self._policy = policy
        self._devices = devices
        self._machine = machine
        self._residents = residents
        self._due_s = [inf] * len(residents)
        self._touched: set[int] = set()
        self._events: list[_Event] = []
        self._serial = 0
        self._wakes = [inf] * len(devices)
        self._open = set(range(len(devices)))
        self._listening: dict[int, Collection[int]] = {}
        self._now_s = 0.0

    def run(self, requests: Sequence[Queued], until_s: float = inf) -> ResidencyRun:
        """Serve requests, which must come in order of arrival and be named by their place, until
        nothing happens any more, or ``until_s``: what has not ended then has no end.

        Raises InputError for requests out of order and NotPossibleError for a policy that asks for
        what a device cannot do.
        """
        with no_cycle_search():
            return self._run(requests, until_s)

    def _run(self, requests: Sequence[Queued], until_s: float) -> ResidencyRun:
        check_in_order((one.request_id, one.arrival_s) for one in requests)
        self._record = Recorder(requests)
        self._requests = requests
        moments_s = [request.arrival_s for request in requests]
        if self._residents:  # steps end at whole picoseconds, and so requests arrive at such
            moments_s = [to_ps(moment_s) / PS_PER_S for moment_s in moments_s]
        following, num_requests = 0, len(requests)
        while True:
            event_s = self._events[0].at_s if self._events else inf
            arrival_s = moments_s[following] if following < num_requests else inf
            self._now_s = min(event_s, arrival_s)
            if self._now_s >= until_s or self._now_s == inf:
                for residents in self._residents:
                    residents.stop(until_s)
                return self._record.run(self._policy.num_waiting)
            asked = self._ends()
            while following < num_requests and moments_s[following] == self._now_s:
                self._policy.add(requests[following], self._now_s)
                asked |= self._open
                if self._listening:
                    asked.update(self._concerned(requests[following].model))
                following += 1
            for index in sorted(asked):
                self._ask(self._devices[index])
            while self._touched:
                self._resume(min(self._touched))

    def _ends(self) -> set[int]:
        """Take everything that ends now; the devices on which something did."""
        ended: set[int] = set()
        while self._events and self._events[0].at_s == self._now_s:
            event = heappop(self._events)
            if event.kind == _STEPPED:
                if not self._stepped(event.device, event.at_s):
                    continue
            else:
                self._take(event)
            ended.add(event.device.index)
        # What ends on one device may leave requests or memory to any other.
        return ended | self._open if ended else ended

    def _take(self, event: _Event) -> None:
        device, now_s = event.device, self._now_s
        if event.kind == _LOADED:
            device.end_load(now_s, loaded=not event.failed)
            if self._residents and not event.failed:
                self._residents[device.index].load(event.model)
            self._policy.loaded(device, event.model, now_s, failed=event.failed)
        elif event.kind == _ENDED:
            batch = event.batch
            assert batch is not None
            device.end_batch(batch.model, len(batch.requests), now_s)
            self._record.ended(batch, event.answered_s, failed=event.failed)
            self._policy.ended(device, batch, now_s, failed=event.failed)
        elif event.kind == _PREFETCHED:
            device.prefetching = None
            self._policy.prefetched(device, event.model, now_s)
        elif self._wakes[device.index] == event.at_s:
            self._wakes[device.index] = inf

    def _ask(self, device: Device) -> None:
        for _ in range(MOST_ACTIONS):
            action = self._policy.next(device, self._now_s)
            if isinstance(action, Wait):
                self._wake(device, action.until_s)
                self._listen(device.index, action.arrivals)
                return
            if isinstance(action, Batch):
                self._begin_batch(device, action)
            elif isinstance(action, Load):
                self._begin_load(device, action)
            elif isinstance(action, Drop):
                device.drop(action.models)
                if self._residents:
                    self._residents[device.index].drop(action.models)
            elif isinstance(action, Shed):
                self._record.shed(action, self._now_s)
            else:
                self._begin_prefetch(device, action)
        raise NotPossibleError(f"{MOST_ACTIONS} actions at {self._now_s} s on device "
                               f"{device.index}")

    def _listen(self, index: int, arrivals: bool | Collection[int]) -> None:
        """Which arrivals a device is asked at from now on."""
        self._listening.pop(index, None)
        if arrivals is True:
            self._open.add(index)
            return
        self._open.discard(index)
        if arrivals:
            assert not isinstance(arrivals, bool)
            self._listening[index] = arrivals

    def _concerned(self, model: int) -> list[int]:
        return [index for index, models in self._listening.items() if model in models]

    def _begin_batch(self, device: Device, batch: Batch) -> None:
        if self._residents:
            self._join(device, batch)
            return
        seconds, failed, after_s = self._machine.batch(device.index, batch, self._now_s)
        device.begin_batch(batch)
        self._record.began(device.index, batch, self._now_s, seconds)
        self._push(_Event(self._now_s + seconds + after_s, self._serial, _ENDED, device, batch,
                          failed=failed, answered_s=self._now_s + seconds))

    def _begin_load(self, device: Device, load: Load) -> None:
        seconds, failed, _ = self._machine.load(device.index, load.model, self._now_s)
        device.begin_load(load)
        if self._residents:
            self._residents[device.index].drop(load.evict)
        self._record.loading(device.index, load.model, self._now_s, seconds, failed=failed)
        self._push(_Event(self._now_s + seconds, self._serial, _LOADED, device, model=load.model,
                          failed=failed))

    # ---- continuous batching

    def _join(self, device: Device, batch: Batch) -> None:
        device.begin_batch(batch)
        self._record.joined(batch, self._now_s)
        self._residents[device.index].begin(
            batch.model, [request.request_id for request in batch.requests], self._now_s)
        self._touched.add(device.index)

    def _stepped(self, device: Device, at_s: float) -> bool:
        """Take the end of steps, unless others took their place; whether requests ended."""
        index = device.index
        if self._due_s[index] != at_s:
            return False
        self._due_s[index] = inf
        self._touched.add(index)
        over = self._residents[index].finish()
        if over.request_ids:
            self._over(device, over)
        return bool(over.request_ids)

    def _resume(self, index: int) -> None:
        """The device's next steps, once all that happens now is known."""
        residents = self._residents[index]
        self._touched.remove(index)
        if gone := residents.resume(self._now_s):
            for over in gone:
                self._over(self._devices[index], over)
            self._touched.add(index)
            self._ask(self._devices[index])
        elif residents.due_s != self._due_s[index]:
            self._due_s[index] = residents.due_s
            self._push(_Event(residents.due_s, self._serial, _STEPPED, self._devices[index]))

    def _over(self, device: Device, over: Over) -> None:
        batch = Batch(over.model, tuple([self._requests[one] for one in over.request_ids]))
        device.end_batch(over.model, len(batch.requests), self._now_s)
        if over.reason is None:
            self._record.ended(batch, self._now_s, failed=False)
        else:
            self._record.shed(Shed(batch.requests, over.reason), self._now_s)
        self._policy.ended(device, batch, self._now_s, failed=False)

    def _begin_prefetch(self, device: Device, prefetch: Prefetch) -> None:
        if device.prefetching is not None:
            raise NotPossibleError(f"device {device.index} already reads {device.prefetching}")
        device.prefetching = prefetch.model
        seconds = self._machine.prefetch(prefetch.model, self._now_s).seconds
        self._push(_Event(self._now_s + seconds, self._serial, _PREFETCHED, device,
                          model=prefetch.model))

    def _wake(self, device: Device, until_s: float) -> None:
        if until_s <= self._now_s:
            raise NotPossibleError(f"device {device.index} waits at {self._now_s} s, until "
                                   f"{until_s} s")
        if until_s < self._wakes[device.index]:
            self._wakes[device.index] = until_s
            self._push(_Event(until_s, self._serial, _WAKE, device))

    def _push(self, event: _Event) -> None:
        heappush(self._events, event)
        self._serial += 1
