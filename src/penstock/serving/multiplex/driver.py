"""Drives a multiplexing policy on real devices, as the simulator drives it in simulated time.

After every arrival, end and timer, the policy decides for each device. Loads run as tasks. A caller
waits for its ticket, sends its request to the engine itself, and reports the end. Which models a
device holds is read from the engines, never assumed.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from itertools import count
from math import inf
from typing import Any, Literal

from penstock.engines.actuators.protocol import Actuator
from penstock.policy.multiplex.device import Device, NotPossibleError
from penstock.policy.multiplex.protocol import Multiplexer
from penstock.policy.multiplex.values import Batch, Drop, Load, Prefetch, Queued, Shed, Wait
from penstock.serving.multiplex.actuator_pool import ActuatorPool
from penstock.serving.multiplex.alarms import Alarms
from penstock.serving.multiplex.batches import Batches
from penstock.serving.multiplex.counts import Counts
from penstock.serving.multiplex.failures import Failures
from penstock.serving.multiplex.pending import PendingRequests
from penstock.serving.multiplex.resident_sync import ResidentSync
from penstock.serving.multiplex.tickets import RefusedError, Rules, Running, Ticket, closing

MOST_ACTIONS = 10_000
"""Limit of actions on one device at one instant, beyond which the policy is taken to loop."""

_SOON_S = 0.5  # until a device is considered again after a failed or impossible action
_LATEST_S = 60.0  # longest Retry-After, except for a model that is set apart for longer


class MultiplexDriver:
    """Carries out a policy's decisions for ``devices`` through ``actuators[device][model]``.

    ``loop`` is the monotonic clock, in seconds, and calls back. ``note`` gets messages for
    operators, one line each. One event loop owns the driver. Call ``recover`` first.
    """

    def __init__(self, policy: Multiplexer, devices: Sequence[Device],
                 actuators: Sequence[Sequence[Actuator]], rules: Rules,
                 loop: asyncio.AbstractEventLoop,
                 note: Callable[[str], None] = lambda _: None) -> None:
        self.policy = policy
        self.devices = devices
        self.counts = Counts()
        self._names = [model.name for model in devices[0].models]
        self._rules = rules
        self._loop = loop
        self._note = note
        self._actuators = ActuatorPool(actuators, rules, loop)
        self._pending = PendingRequests(
            len(self._names), rules.max_wait_s, loop, self.counts, self._expired,
            left=self._left, unused=lambda ticket: self.leave(ticket, "left"))
        self._batches = Batches(policy, self._pending, self._actuators, loop)
        self._failures = Failures(self._names, len(devices), rules.attempts, rules.set_apart_s)
        self._numbers = count()
        self._tries: dict[int, int] = {}
        self._sync = ResidentSync(devices, self._names, self._actuators, loop, note,
                                  pause=self._begin, lost=self._on_engine_lost)
        self._paused = [0] * len(devices)
        self._rests = [0.0] * len(devices)
        self._listens: list[bool | Collection[int]] = [True] * len(devices)
        self._alarms = Alarms(len(devices), loop, self._woken)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- callers --------------------------------------------------------------------------------

    async def enter(self, model: int, deadline_after_s: float = inf, prompt_tokens: int = 0,
                    max_tokens: int = 0) -> Ticket:
        """Wait for a ticket. Raises RefusedError where the request is rejected. A cancelled caller
        has left."""
        now_s = self._loop.time()
        if (refusal := self.refusal(model)) is not None:
            raise self._refused(model, refusal)
        request = Queued(next(self._numbers), model, now_s, now_s + deadline_after_s,
                         prompt_tokens, max_tokens)
        self.policy.add(request, now_s)
        future = self._pending.add(request)
        self._decide(arrived=model)
        return await self._wait(request, future)

    def leave(self, ticket: Ticket, end: Literal["answered", "left", "failed"] = "answered"
              ) -> None:
        """End the request of a ticket: it was answered, its client left, or the engine failed it
        for good."""
        self._tries.pop(ticket.request.request_id, None)
        if end == "answered":
            self._failures.succeeded(ticket.model, ticket.device)
        self._ended(ticket, failed=end == "failed")

    async def retry(self, ticket: Ticket) -> Ticket:
        """Wait for another ticket after the engine failed the request. Raises RefusedError where it
        has failed too often, or where the policy rejects it."""
        request = ticket.request
        tries = self._tries[request.request_id] = self._tries.get(request.request_id, 0) + 1
        if self._closed or tries >= self._rules.tries:
            self.leave(ticket, "failed")
            raise self._refused(request.model, closing() if self._closed else RefusedError(
                f"its engine failed it {tries} times", "failed", self._soon_s(request.model)))
        future = self._pending.add(request)
        self._ended(ticket, failed=True)
        return await self._wait(request, future)

    async def _wait(self, request: Queued, future: "asyncio.Future[Ticket]") -> Ticket:
        try:
            return await self._pending.wait(request, future)
        except (asyncio.CancelledError, RefusedError):
            self._tries.pop(request.request_id, None)
            raise

    def _left(self, request: Queued) -> None:
        self.policy.cancel(request.request_id)
        self._decide()

    def _refused(self, model: int, refusal: RefusedError) -> RefusedError:
        self.counts.refuse(model, refusal.code, refusal.reason)
        return refusal

    def refusal(self, model: int) -> RefusedError | None:
        """Return why a request for a model would be rejected at once, None where it would wait."""
        now_s, num = self._loop.time(), self._pending.num(model)
        if self._closed:
            return closing()
        apart = self._failures.apart(model, now_s)
        if apart is not None:
            return RefusedError(f"it is set apart: {apart.why}", "set_apart",
                                max(1.0, apart.until_s - now_s))
        if num >= self._rules.max_queue:
            return RefusedError(f"{num} requests wait for {self._names[model]}, as many as may",
                                "queue_full", self._soon_s(model))
        return None

    def num_waiting(self, model: int) -> int:
        """Number of requests that wait for a model."""
        return self._pending.num(model)

    def apart(self, model: int) -> str | None:
        """Return why a model is set apart, None where it is not."""
        found = self._failures.apart(model, self._loop.time())
        return None if found is None else found.why

    def _expired(self, request: Queued) -> None:
        self._reject(request, RefusedError(
            f"it waited {self._rules.max_wait_s:g} s for its turn", "waited_too_long",
            self._soon_s(request.model)))

    def _reject(self, request: Queued, refusal: RefusedError) -> None:
        self.policy.cancel(request.request_id)
        self._pending.reject(request, refusal)

    def _soon_s(self, model: int) -> float:
        """Return the time to retry after: about one batch."""
        hosted = self.devices[0].models[model]
        return min(_LATEST_S, max(1.0, hosted.batch.seconds(hosted.max_batch)))

    # -- decisions ------------------------------------------------------------------------------

    def _decide(self, arrived: int | None = None) -> None:
        """Consider every device, or those that listen for arrivals of this model."""
        for device in self.devices:
            listens = self._listens[device.index]
            concerned = listens if isinstance(listens, bool) else arrived in listens
            if (arrived is None or concerned) and not self._is_paused(device):
                self._ask(device)

    def _is_paused(self, device: Device) -> bool:
        """Whether nothing may start on a device until its loaded models are known."""
        return bool(self._closed or self._paused[device.index]
                    or self._sync.lacks_any(device))

    def _ask(self, device: Device) -> None:
        now_s = self._loop.time()
        apart = self._failures.device_apart(device.index, now_s)
        rests_until_s = max(self._rests[device.index], apart.until_s if apart else 0.0)
        if now_s < rests_until_s:
            self._alarms.set(device.index, rests_until_s)
            return
        try:
            for _ in range(MOST_ACTIONS):
                action = self.policy.next(device, now_s)
                if isinstance(action, Wait):
                    self._listens[device.index] = action.arrivals
                    if action.until_s < inf:
                        self._alarms.set(device.index, action.until_s if action.until_s > now_s
                                   else now_s + _SOON_S)
                    return
                if not self._act(device, action, now_s):
                    return
            raise NotPossibleError(f"{MOST_ACTIONS} actions at once on device {device.index}")
        except Exception as error:  # an error of the policy must not become an error of a caller
            self._note(f"the policy decided something impossible: {error!r}; it is asked again "
                       "later")
            self._listens[device.index] = True
            self._alarms.set(device.index, now_s + _SOON_S)

    def _act(self, device: Device, action: Load | Batch | Drop | Prefetch | Shed,
             now_s: float) -> bool:
        """Begin an action. Returns False where the policy is not asked again before the action has
        ended."""
        if isinstance(action, Batch):
            self._batches.begin(device, action)
        elif isinstance(action, Shed):
            for request in action.requests:
                self._pending.reject(request, RefusedError(action.reason, "shed",
                                                           self._soon_s(request.model)))
        elif isinstance(action, Drop):
            device.drop(action.models)
            self._begin(device, partial(self._drop, device, action.models))
            return False  # memory is free once the engines report it
        elif isinstance(action, Prefetch):
            if device.prefetching is not None:
                raise NotPossibleError(f"device {device.index} already reads {device.prefetching}")
            device.prefetching = action.model
            self._task(self._prefetch(device, action.model))
        elif self._failures.apart(action.model, now_s) is not None:
            self.policy.loaded(device, action.model, now_s, failed=True)
            self._alarms.set(device.index, now_s + _SOON_S)
            return False
        else:
            device.begin_load(action)
            self._task(self._load(device, action))
        return True

    def _ended(self, ticket: Ticket, *, failed: bool) -> None:
        running = ticket.running
        whole = self._batches.over(ticket, failed=failed)
        self._sync.drop_if_lost(running.device, ticket.model)
        if failed and not self._closed:
            is_there = self._sync.check(ticket)
            if whole:
                self._begin(running.device, partial(self._explain, running, is_there))
        self._decide()

    async def _explain(self, running: Running, is_there: "asyncio.Future[bool]") -> None:
        """Report to the policy why a whole batch failed, once it is known whether the engine
        died."""
        self._batches.explain(running, engine_died=not await is_there)

    def _woken(self, index: int) -> None:
        if not self._is_paused(self.devices[index]):
            self._ask(self.devices[index])

    # -- loads ----------------------------------------------------------------------------------

    async def _load(self, device: Device, load: Load) -> None:
        began_s, index, gone = self._loop.time(), device.index, list(load.evict)
        why = await self._actuators.swap(index, load, gone)
        now_s = self._loop.time()
        device.end_load(now_s, loaded=why is None)
        self.counts.loaded(index, load.model, now_s - began_s, failed=why is not None)
        for model in gone if why is not None else ():  # evicted models that may still be loaded
            await self._sync.keep_if_there(device, model)
        self.policy.loaded(device, load.model, now_s, failed=why is not None)
        if why is not None:
            self._note(f"{self._names[load.model]} could not be loaded on device {index}: {why}")
            self._rests[index] = now_s + _SOON_S  # avoid a tight loop of immediate failures
            self._blame(load.model, device, why)
        self._decide()

    async def _drop(self, device: Device, models: Sequence[int]) -> None:
        """Unload evicted models from a device, which is paused until then."""
        for model in models:
            await self._actuators.unload(device.index, model)
            await self._sync.keep_if_there(device, model)

    async def _prefetch(self, device: Device, model: int) -> None:
        await self._actuators.prefetch(device.index, model)
        device.prefetching = None
        self.counts.prefetched[model] += 1
        self.policy.prefetched(device, model, self._loop.time())
        self._decide()

    def _on_engine_lost(self, model: int, device: Device, why: str) -> None:
        """Handle the loss of a resident model, whose engine has been stopped."""
        self.counts.lost[device.index, model] += 1
        self._blame(model, device, why)

    def _blame(self, model: int, device: Device, why: str) -> None:
        """Count a failed load or a dead engine. Requests that wait for a model that is set apart
        are rejected."""
        now_s = self._loop.time()
        apart = self._failures.failed(model, device.index, why, now_s)
        if apart is not None:
            self._note(f"{self._names[model]} is set apart: {apart.why}")
            for request in self._pending.requests(model):
                self._reject(request, RefusedError(f"it is set apart: {apart.why}", "set_apart",
                                                   max(1.0, self._rules.set_apart_s)))
        elif self._failures.device_apart(device.index, now_s) is not None:
            self._note(f"device {device.index} is set apart: {why}")
            # a policy would leave these models' requests to this device
            if idle := tuple(device.idle):
                device.drop(idle)
                self._begin(device, partial(self._drop, device, idle))

    # -- loaded models --------------------------------------------------------------------------

    async def recover(self) -> None:
        """Read the loaded models from all engines. Those that fit become resident, the rest is
        unloaded."""
        await self._sync.recover()

    async def watch(self) -> None:
        """Check periodically that engines still hold their resident models, until cancelled."""
        while True:
            await asyncio.sleep(self._rules.look_s)
            await self.look()

    async def look(self) -> None:
        """Check the engines of resident models once."""
        await self._sync.look()

    # -- tasks ----------------------------------------------------------------------------------

    def reject_all(self) -> None:
        """Reject all waiting requests and all new ones. Requests with a ticket continue."""
        self._closed = True
        self._alarms.close()
        for request in self._pending.requests():
            self._reject(request, closing())

    async def close(self) -> None:
        """Reject waiting requests, stop work in progress, and close the actuators."""
        self.reject_all()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._actuators.close()

    def _begin(self, device: Device, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin work during which a device is paused."""
        async def paused() -> None:
            try:
                await work()
            finally:
                self._paused[device.index] -= 1
            self._decide()

        self._paused[device.index] += 1
        self._task(paused())

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._note(f"a bug in Penstock: {task.exception()!r}")
