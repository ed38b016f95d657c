"""A pool of devices that models share, as one source of the event kernel.

At one instant, ends are processed first, then arrivals; then the policy decides for every device
with idle resources; last, devices with continuous batching begin their next steps. Times are whole
picoseconds; policies and machines see seconds.
"""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

from penstock.core.units import PS_PER_S, to_later_ps, to_ps
from penstock.policy.multiplex.device import Device, NotPossibleError
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Batch, Drop, Load, Prefetch, Queued, Shed, Wait
from penstock.sim.kernel import NEVER_PS, EventSource
from penstock.sim.multiplex.continuous import Over, Residents
from penstock.sim.multiplex.machine import Machine
from penstock.sim.multiplex.record import MultiplexRun, Recorder

_LOADED: Final = 0
_ENDED: Final = 1
_PREFETCHED: Final = 2
_STEPPED: Final = 3
MOST_ACTIONS: Final = 10_000
"""Limit of actions on one device at one instant, beyond which the policy is taken to loop."""


class _Event(NamedTuple):
    """An event, ordered by time and then by its unique serial number."""

    at_ps: int
    serial: int
    kind: int
    device: Device
    batch: Batch | None = None
    model: int = -1
    failed: bool = False
    answered_ps: int = NEVER_PS


class MultiplexedPool(EventSource):
    """Devices, the policy for all of them, and the true durations.

    ``residents`` compute on each device with continuous batching. Without them batches are static,
    with durations from ``machine``. All arguments are for one run only.
    """

    def __init__(self, number: int, policy: Multiplexer, devices: Sequence[Device],
                 machine: Machine, residents: Sequence[Residents], record: Recorder) -> None:
        super().__init__(number)
        self.devices = devices
        self.num_waiting = [0] * len(devices[0].models)
        """Requests by model that neither run nor were shed."""
        self._policy = policy
        self._machine = machine
        self._residents = residents
        self._record = record
        self._running: dict[int, Queued] = {}  # with continuous batching
        self._steps_due_ps = [NEVER_PS] * len(residents)
        self._touched: set[int] = set()  # devices whose next steps must begin
        self._asked: set[int] = set()    # devices for which the policy decides at this instant
        self._events: list[_Event] = []
        self._serial = 0
        self._wakes: list[tuple[int, int]] = []  # (due, number of the device)
        self._wakes_s = [inf] * len(devices)  # queued wake times, as requested by the policy
        self._open = set(range(len(devices)))
        self._listening: dict[int, Collection[int]] = {}
        self._now_ps = 0
        self._now_s = 0.0

    # ---- the kernel's side

    def arrive(self, request: Queued, now_ps: int) -> None:
        """Take a request for one of the pool's models."""
        self._tick(now_ps)
        self._record.arrived(request)
        self.num_waiting[request.model] += 1
        self._policy.add(request, self._now_s)
        self._asked |= self._open
        if self._listening:
            self._asked.update(self._concerned(request.model))

    def commit(self, now_ps: int) -> None:
        self._tick(now_ps)
        ended = False
        while self._events and self._events[0].at_ps == now_ps:
            event = heappop(self._events)
            if event.kind == _STEPPED:
                if not self._stepped(event.device, event.at_ps):
                    continue
            else:
                self._take(event)
            self._asked.add(event.device.index)
            ended = True
        wakes = self._wakes
        while wakes and wakes[0][0] == now_ps:
            _, index = heappop(wakes)
            if self._wakes_s[index] <= self._now_s:
                self._wakes_s[index] = inf
            self._asked.add(index)
            ended = True
        if ended:  # an end on one device may free requests or memory for any other
            self._asked |= self._open
        self._show_due()

    def plan(self, now_ps: int) -> None:
        self._tick(now_ps)
        asked, self._asked = self._asked, set()
        for index in sorted(asked):
            self._ask(self.devices[index])
        while self._touched:
            self._resume(min(self._touched))
        self._show_due()

    def stop(self, now_ps: int) -> None:
        for residents in self._residents:
            residents.stop(now_ps)

    def run(self) -> MultiplexRun:
        """Return the run so far."""
        return self._record.run(self._policy.num_waiting)

    def _tick(self, now_ps: int) -> None:
        if now_ps != self._now_ps:
            self._now_ps, self._now_s = now_ps, now_ps / PS_PER_S

    def _show_due(self) -> None:
        due_ps = self._events[0].at_ps if self._events else NEVER_PS
        if self._wakes and self._wakes[0][0] < due_ps:
            due_ps = self._wakes[0][0]
        self.due_ps = due_ps

    # ---- ends

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
            self._record.ended(batch, event.answered_ps / PS_PER_S, failed=event.failed)
            if event.failed:
                self.num_waiting[batch.model] += len(batch.requests)
            else:
                self._tell_ended(batch.requests)
            self._policy.ended(device, batch, now_s, failed=event.failed)
        else:
            device.prefetching = None
            self._policy.prefetched(device, event.model, now_s)

    # ---- actions

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
                self._leave(action.requests)
                self._record.shed(action, self._now_s)
                self._tell_ended(action.requests)
            else:
                self._begin_prefetch(device, action)
        raise NotPossibleError(f"{MOST_ACTIONS} actions at {self._now_s} s on device "
                               f"{device.index}")

    def _tell_ended(self, requests: Sequence[Queued]) -> None:
        if self.on_ended is not None:
            for request in requests:
                self.on_ended(request.request_id, self._now_ps)

    def _leave(self, requests: Sequence[Queued]) -> None:
        for request in requests:
            self.num_waiting[request.model] -= 1

    def _listen(self, index: int, arrivals: bool | Collection[int]) -> None:
        """Record the arrivals for which a device is considered from now on."""
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
        self.num_waiting[batch.model] -= len(batch.requests)
        if self._residents:
            self._join(device, batch)
            return
        seconds, failed, after_s = self._machine.batch(device.index, batch, self._now_s)
        answered_ps = self._now_ps + to_ps(seconds)
        device.begin_batch(batch)
        self._record.began(device.index, batch, self._now_s, seconds)
        self._push(_Event(answered_ps + to_ps(after_s), self._serial, _ENDED, device, batch,
                          failed=failed, answered_ps=answered_ps))

    def _begin_load(self, device: Device, load: Load) -> None:
        seconds, failed, _ = self._machine.load(device.index, load.model, self._now_s)
        end_ps = self._now_ps + to_ps(seconds)
        device.begin_load(load)
        if self._residents:
            self._residents[device.index].drop(load.evict)
        self._record.loading(device.index, load.model, self._now_s, seconds, failed=failed)
        self._push(_Event(end_ps, self._serial, _LOADED, device, model=load.model, failed=failed))

    def _begin_prefetch(self, device: Device, prefetch: Prefetch) -> None:
        if device.prefetching is not None:
            raise NotPossibleError(f"device {device.index} already reads {device.prefetching}")
        device.prefetching = prefetch.model
        seconds = self._machine.prefetch(prefetch.model, self._now_s).seconds
        self._push(_Event(self._now_ps + to_ps(seconds), self._serial, _PREFETCHED, device,
                          model=prefetch.model))

    def _wake(self, device: Device, until_s: float) -> None:
        if until_s <= self._now_s:
            raise NotPossibleError(f"device {device.index} waits at {self._now_s} s, until "
                                   f"{until_s} s")
        if until_s < self._wakes_s[device.index]:
            self._wakes_s[device.index] = until_s
            heappush(self._wakes, (to_later_ps(until_s), device.index))

    def _push(self, event: _Event) -> None:
        heappush(self._events, event)
        self._serial += 1

    # ---- continuous batching

    def _join(self, device: Device, batch: Batch) -> None:
        device.begin_batch(batch)
        self._record.joined(batch, self._now_s)
        for request in batch.requests:
            self._running[request.request_id] = request
        self._residents[device.index].begin(
            batch.model, [request.request_id for request in batch.requests], self._now_ps)
        self._touched.add(device.index)

    def _stepped(self, device: Device, at_ps: int) -> bool:
        """Process the end of steps, unless they were superseded. Returns whether requests ended."""
        index = device.index
        if self._steps_due_ps[index] != at_ps:
            return False
        self._steps_due_ps[index] = NEVER_PS
        self._touched.add(index)
        over = self._residents[index].finish()
        if over.request_ids:
            self._over(device, over)
        return bool(over.request_ids)

    def _resume(self, index: int) -> None:
        """Begin the device's next steps, once all events of this instant are known."""
        residents = self._residents[index]
        self._touched.remove(index)
        if gone := residents.resume(self._now_ps):
            for over in gone:
                self._over(self.devices[index], over)
            self._touched.add(index)
            self._ask(self.devices[index])
        elif residents.due_ps != self._steps_due_ps[index]:
            self._steps_due_ps[index] = residents.due_ps
            self._push(_Event(residents.due_ps, self._serial, _STEPPED, self.devices[index]))

    def _over(self, device: Device, over: Over) -> None:
        batch = Batch(over.model, tuple([self._running.pop(one) for one in over.request_ids]))
        device.end_batch(over.model, len(batch.requests), self._now_s)
        if over.reason is None:
            self._record.ended(batch, self._now_s, failed=False)
        else:
            self._record.shed(Shed(batch.requests, over.reason), self._now_s)
        self._tell_ended(batch.requests)
        self._policy.ended(device, batch, self._now_s, failed=False)
