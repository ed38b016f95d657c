"""The clock of real devices that models take turns on: what the simulator's driver does, done.

After every arrival, end and wake the policy is asked, device by device, what to do. Loads are
tasks; requests are their callers' own: a caller waits for its turn, sends its request to the
engine, and says when it is over. What is on a device is asked of the engines, never assumed.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import count
from math import inf
from typing import Any, Literal

from penstock.engine.live.residency.actuator import Actuator, ActuatorError
from penstock.engine.live.residency.counts import Counts
from penstock.engine.live.residency.failures import Failures
from penstock.engine.live.residency.turns import RefusedError, Rules, Running, Ticket
from penstock.policy.residency.device import Device, NotPossibleError, Resident
from penstock.policy.residency.protocol import Residency
from penstock.policy.residency.values import Batch, Drop, Load, Prefetch, Queued, Shed, Wait

MOST_ACTIONS = 10_000
"""So many actions of one device at one instant are a policy that does not come to an end."""

_SOON_S = 0.5  # until a device is asked again whose policy wanted what cannot be


class _Waiting:
    """A request in the policy's queues, and who waits for it."""

    __slots__ = ("place", "request", "timer")

    def __init__(self, request: Queued, place: "asyncio.Future[Ticket]",
                 timer: asyncio.TimerHandle) -> None:
        self.request = request
        self.place = place
        self.timer = timer


class ResidencyDriver:
    """Carries out what a policy decides for ``devices``; ``actuators[device][model]`` do it.

    ``loop`` gives the time, in seconds that only go forward, and calls back. ``note`` is told what
    an operator should know, a line at a time. One object belongs to one event loop.
    """

    def __init__(self, policy: Residency, devices: Sequence[Device],
                 actuators: Sequence[Sequence[Actuator]], rules: Rules,
                 loop: asyncio.AbstractEventLoop,
                 note: Callable[[str], None] = lambda _: None) -> None:
        self.policy = policy
        self.devices = devices
        self.counts = Counts()
        self._actuators = actuators
        self._names = [model.name for model in devices[0].models]
        self._rules = rules
        self._loop = loop
        self._note = note
        self._failures = Failures(self._names, len(devices), rules.attempts, rules.set_apart_s)
        self._numbers = count()
        self._waiting: dict[int, _Waiting] = {}
        self._num_waiting = [0] * len(self._names)
        self._tries: dict[int, int] = {}
        self._checked: set[tuple[int, int]] = set()
        self._lost: set[tuple[int, int]] = set()
        self._paused = [0] * len(devices)
        self._wakes: list[tuple[float, asyncio.TimerHandle] | None] = [None] * len(devices)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- callers --------------------------------------------------------------------------------

    async def enter(self, model: int, deadline_after_s: float = inf, prompt_tokens: int = 0,
                    max_tokens: int = 0) -> Ticket:
        """Waits for a turn. Raises RefusedError without one. Who is cancelled has left."""
        now_s = self._loop.time()
        if (refusal := self.refusal(model)) is not None:
            self.counts.refuse(model, refusal.code, refusal.reason)
            raise refusal
        request = Queued(next(self._numbers), model, now_s, now_s + deadline_after_s,
                         prompt_tokens, max_tokens)
        self.policy.add(request, now_s)
        place = self._wait(request)
        return await self._turn(request, place)

    def leave(self, ticket: Ticket, end: Literal["answered", "left", "failed"] = "answered"
              ) -> None:
        """The request of a ticket is over: answered, left by its client, or failed by the engine,
        after which nobody wants it any more."""
        self._tries.pop(ticket.request.request_id, None)
        if end == "answered":
            self._failures.succeeded(ticket.model, ticket.device)
        self._ended(ticket, failed=end == "failed")

    async def again(self, ticket: Ticket) -> Ticket:
        """The engine failed the request, and it may be tried anew: waits for another turn. Raises
        RefusedError where it has failed too often, or the policy does not want it back."""
        request = ticket.request
        tries = self._tries[request.request_id] = self._tries.get(request.request_id, 0) + 1
        if tries >= self._rules.attempts:
            self.leave(ticket, "failed")
            self._refused(request, f"its engine failed it {tries} times", "failed")
        place = self._wait(request)
        self._ended(ticket, failed=True)
        return await self._turn(request, place)

    def refusal(self, model: int) -> RefusedError | None:
        """Why a request for a model would be turned away at once, None if it would not."""
        if self._closed:
            return RefusedError("the gateway is closing", "closing", 1.0)
        apart = self._failures.apart(model, self._loop.time())
        if apart is not None:
            return RefusedError(f"it is set apart: {apart.why}", "set_apart",
                                max(1.0, apart.until_s - self._loop.time()))
        if self._num_waiting[model] >= self._rules.max_queue:
            return RefusedError(f"{self._num_waiting[model]} requests wait for {self._names[model]}"
                                ", as many as may", "queue_full", self._soon_s(model))
        return None

    def num_waiting(self, model: int) -> int:
        """Requests of a model that wait for their turn."""
        return self._num_waiting[model]

    def apart(self, model: int) -> str | None:
        """Why a model is set apart, None if it is not."""
        found = self._failures.apart(model, self._loop.time())
        return None if found is None else found.why

    def _wait(self, request: Queued) -> "asyncio.Future[Ticket]":
        place: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        request_id = request.request_id
        timer = self._loop.call_at(self._loop.time() + self._rules.max_wait_s,
                                   lambda: self._expire(request_id))
        self._waiting[request_id] = _Waiting(request, place, timer)
        self._num_waiting[request.model] += 1
        return place

    async def _turn(self, request: Queued, place: "asyncio.Future[Ticket]") -> Ticket:
        self._decide()
        try:
            return await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave(place.result(), "left")  # the turn came in the same moment
            elif self._gone(request.request_id) is not None:
                self.policy.cancel(request.request_id)
                self._decide()
            raise

    def _gone(self, request_id: int) -> _Waiting | None:
        """Nobody waits for a request any more."""
        one = self._waiting.pop(request_id, None)
        if one is not None:
            one.timer.cancel()
            self._num_waiting[one.request.model] -= 1
        return one

    def _expire(self, request_id: int) -> None:
        one = self._waiting.get(request_id)
        if one is not None:
            self.policy.cancel(request_id)
            self._turn_away(request_id, f"it waited {self._rules.max_wait_s:g} s for its turn",
                            "waited_too_long", self._soon_s(one.request.model))

    def _turn_away(self, request_id: int, why: str, code: str, after_s: float) -> None:
        one = self._gone(request_id)
        self._tries.pop(request_id, None)
        if one is not None and not one.place.done():
            self.counts.refuse(one.request.model, code, why)
            one.place.set_exception(RefusedError(why, code, after_s))

    def _refused(self, request: Queued, why: str, code: str) -> None:
        self.counts.refuse(request.model, code, why)
        raise RefusedError(why, code, self._soon_s(request.model))

    def _soon_s(self, model: int) -> float:
        """When to come back: after about a batch."""
        hosted = self.devices[0].models[model]
        return min(60.0, max(1.0, hosted.batch.seconds(hosted.max_batch)))

    # -- decisions ------------------------------------------------------------------------------

    def _decide(self) -> None:
        for device in self.devices:
            if not self._is_paused(device):
                self._ask(device)

    def _is_paused(self, device: Device) -> bool:
        """Whether nothing may begin on a device until more is known of what it holds."""
        return bool(self._closed or self._paused[device.index]
                    or any((device.index, model) in self._lost for model in device.residents))

    def _ask(self, device: Device) -> None:
        now_s = self._loop.time()
        apart = self._failures.device_apart(device.index, now_s)
        if apart is not None:
            self._wake(device, apart.until_s)
            return
        try:
            for _ in range(MOST_ACTIONS):
                action = self.policy.next(device, now_s)
                if isinstance(action, Wait):
                    if action.until_s < inf:
                        self._wake(device, action.until_s)
                    return
                if not self._act(device, action, now_s):
                    if not self._is_paused(device):
                        self._wake(device, now_s + _SOON_S)
                    return
            raise NotPossibleError(f"{MOST_ACTIONS} actions at once on device {device.index}")
        except NotPossibleError as error:  # a fault of the policy; the others go on
            self._note(f"the policy asked for what cannot be: {error}; it is asked again later")
            self._wake(device, now_s + _SOON_S)

    def _act(self, device: Device, action: Load | Batch | Drop | Prefetch | Shed,
             now_s: float) -> bool:
        """Begin what the policy wants; False where that must wait."""
        if isinstance(action, Batch):
            self._begin_batch(device, action, now_s)
        elif isinstance(action, Shed):
            for request in action.requests:
                self._turn_away(request.request_id, action.reason, "shed",
                                self._soon_s(request.model))
        elif isinstance(action, Drop):
            device.drop(action.models)
            self._paused[device.index] += 1
            self._task(self._drop(device, action.models))
            return False  # memory is free when the engines say so
        elif isinstance(action, Prefetch):
            if device.prefetching is not None:
                raise NotPossibleError(f"device {device.index} already reads {device.prefetching}")
            device.prefetching = action.model
            self._task(self._prefetch(device, action.model))
        elif self._failures.apart(action.model, now_s) is not None:
            self.policy.loaded(device, action.model, now_s, failed=True)
            return False
        else:
            device.begin_load(action, now_s + self._rules.load_timeout_s)
            self._task(self._load(device, action))
        return True

    def _begin_batch(self, device: Device, batch: Batch, now_s: float) -> None:
        hosted = device.models[batch.model]
        device.begin_batch(batch, now_s + hosted.batch.seconds(len(batch.requests)))
        running = Running(device, batch, {one.request_id for one in batch.requests},
                          device.residents[batch.model])
        url = self._actuators[device.index][batch.model].url
        for request in batch.requests:
            one = self._gone(request.request_id)
            ticket = Ticket(request, device.index, batch.model, url or "", running)
            if one is None or one.place.done():  # its caller left while the policy had it in hand
                self._over(ticket, failed=False)
            else:
                self.counts.started[batch.model] += 1
                one.place.set_result(ticket)

    def _ended(self, ticket: Ticket, *, failed: bool) -> None:
        self._over(ticket, failed=failed)
        if failed:
            self._check(ticket)
        self._decide()

    def _over(self, ticket: Ticket, *, failed: bool) -> None:
        """A request of a batch has ended. Those that failed are the policy's again, as far as
        somebody still waits for them."""
        running, request, now_s = ticket.running, ticket.request, self._loop.time()
        device = running.device
        if request.request_id not in running.left:
            raise ValueError("the ticket was given back before")
        running.left.discard(request.request_id)
        if failed:
            running.failed[request.request_id] = request
        if device.continuous:
            device.end_batch(ticket.model, 1, now_s)
            self._tell(device, Batch(ticket.model, (request,)), {request.request_id} if failed
                       else set(), now_s)
        elif not running.left:
            device.end_batch(ticket.model, len(running.batch.requests), now_s)
            self._tell(device, running.batch, set(running.failed), now_s)
        self._drop_if_lost(device, ticket.model)

    def _tell(self, device: Device, batch: Batch, failed: set[int], now_s: float) -> None:
        """Tell the policy of a batch that is over. Where all of several failed together, there were
        too many of them; otherwise it has ended, and who failed arrives anew."""
        whole = len(failed) == len(batch.requests) > 1
        self.policy.ended(device, batch, now_s, failed=whole)
        for request in batch.requests:
            waits = request.request_id in self._waiting
            if whole and not waits:
                self.policy.cancel(request.request_id)
            elif not whole and waits:
                self.policy.add(request, now_s)

    def _wake(self, device: Device, at_s: float) -> None:
        set_for = self._wakes[device.index]
        if set_for is not None:
            if set_for[0] <= at_s and set_for[0] > self._loop.time():
                return
            set_for[1].cancel()
        self._wakes[device.index] = (at_s, self._loop.call_at(at_s, lambda: self._woken(device)))

    def _woken(self, device: Device) -> None:
        self._wakes[device.index] = None
        if not self._is_paused(device):
            self._ask(device)

    # -- loads ----------------------------------------------------------------------------------

    async def _load(self, device: Device, load: Load) -> None:
        began_s, index = self._loop.time(), device.index
        actuators, gone = self._actuators[index], list(load.evict)
        why = None
        try:
            await self._within(self._rules.load_timeout_s, self._swap(index, load, gone))
        except TimeoutError:
            why = f"no load within {self._rules.load_timeout_s:g} s"
        except ActuatorError as error:
            why = str(error)
        except Exception as error:  # a bug of ours must not take the device with it
            why = f"a bug in Penstock: {error!r}"
        if why is not None:
            await self._quietly(actuators[load.model].unload())
        now_s = self._loop.time()
        device.end_load(now_s, loaded=why is None)
        if why is None:
            self.counts.loads[index, load.model, "loaded"] += 1
            self.counts.load_s[load.model] += now_s - began_s  # type: ignore[assignment]
        else:
            self.counts.loads[index, load.model, "failed"] += 1
            self._note(f"{self._names[load.model]} could not be loaded on device {index}: {why}")
            for model in gone:  # those that were to make room and may not have
                await self._keep_if_there(device, model)
        self.policy.loaded(device, load.model, now_s, failed=why is not None)
        if why is not None:
            self._blame(load.model, index, why)
        self._decide()

    async def _swap(self, index: int, load: Load, gone: list[int]) -> None:
        for model in load.evict:
            await self._actuators[index][model].unload()
            gone.remove(model)
        await self._actuators[index][load.model].load()

    async def _drop(self, device: Device, models: Sequence[int]) -> None:
        """Unload what has left a device, which is paused until then."""
        try:
            for model in models:
                await self._quietly(self._actuators[device.index][model].unload())
                await self._keep_if_there(device, model)
        finally:
            self._paused[device.index] -= 1
        self._decide()

    async def _keep_if_there(self, device: Device, model: int) -> None:
        """A model that was to be evicted is resident all the same if its engine says so."""
        if model not in device.residents and await self._holds(device.index, model) is not False \
                and device.fits(model):
            device.residents[model] = Resident(self._loop.time())

    async def _prefetch(self, device: Device, model: int) -> None:
        try:
            await self._within(self._rules.load_timeout_s,
                               self._actuators[device.index][model].prefetch())
            self.counts.prefetched[model] += 1
        except Exception as error:
            self._note(f"{self._names[model]} could not be read ahead: {error}")
        finally:
            device.prefetching = None
        self.policy.prefetched(device, model, self._loop.time())
        self._decide()

    def _blame(self, model: int, device: int, why: str) -> None:
        """A model's load failed or its engine died. Whoever waits for what is set apart is told."""
        now_s = self._loop.time()
        apart = self._failures.failed(model, device, why, now_s)
        if apart is None:
            return
        self._note(f"{self._names[model]} is set apart for {self._rules.set_apart_s:g} s: "
                   f"{apart.why}")
        for request_id, one in list(self._waiting.items()):
            if one.request.model == model:
                self.policy.cancel(request_id)
                self._turn_away(request_id, f"it is set apart: {apart.why}", "set_apart",
                                max(1.0, self._rules.set_apart_s))

    # -- what engines really hold ---------------------------------------------------------------

    async def recover(self) -> None:
        """Ask all engines what they hold. What fits is resident from now on, the rest is unloaded.
        To be called before anything else."""
        for device in self.devices:
            held = await asyncio.gather(*(self._holds(device.index, model)
                                          for model in range(len(self._names))))
            for model, holds in enumerate(held):
                if not holds:
                    continue
                if device.fits(model):
                    device.residents[model] = Resident(self._loop.time())
                else:
                    self._note(f"device {device.index} holds {self._names[model]}, for which there "
                               "is no room; it is unloaded")
                    await self._quietly(self._actuators[device.index][model].unload())

    async def watch(self) -> None:
        """Ask engines again and again whether they hold what they should, until cancelled."""
        while True:
            await asyncio.sleep(self._rules.look_s)
            await self.look()

    async def look(self) -> None:
        """Ask the engines of resident models once."""
        await asyncio.gather(*(self._look_at(device, model) for device in self.devices
                               for model in tuple(device.residents)))

    async def _look_at(self, device: Device, model: int) -> None:
        before = device.residents.get(model)
        holds = await self._holds(device.index, model)
        # What was swapped while it was asked says nothing.
        if holds is False and device.residents.get(model) is before is not None:
            await self._lose(device, model, "its engine does not hold it any more")

    def _check(self, ticket: Ticket) -> None:
        """Find out whether an engine that failed a request is still there. Until that is known
        nothing new begins on the device, or the same would fail again at once."""
        key, device = (ticket.device, ticket.model), self.devices[ticket.device]
        known = self._closed or key in self._checked or key in self._lost
        if not known and device.residents.get(ticket.model) is ticket.running.resident:
            self._checked.add(key)
            self._paused[device.index] += 1
            self._task(self._checking(device, ticket.model))

    async def _checking(self, device: Device, model: int) -> None:
        try:
            holds = await self._holds(device.index, model)
            if holds is not True and model in device.residents:
                await self._lose(device, model, "its engine died" if holds is False
                                 else "its engine does not answer")
        finally:
            self._checked.discard((device.index, model))
            self._paused[device.index] -= 1
        self._decide()

    async def _lose(self, device: Device, model: int, why: str) -> None:
        """A resident model is gone. Its engine is ended, so that whatever still runs there fails,
        and what it left behind is freed."""
        key = (device.index, model)
        if key in self._lost:
            return
        self._lost.add(key)
        self.counts.lost[key] += 1
        self._note(f"{self._names[model]} is gone from device {device.index}: {why}")
        self._paused[device.index] += 1
        try:
            await self._quietly(self._actuators[device.index][model].unload())
        finally:
            self._paused[device.index] -= 1
        self._drop_if_lost(device, model)
        self._blame(model, device.index, why)
        self._decide()

    def _drop_if_lost(self, device: Device, model: int) -> None:
        key = (device.index, model)
        if key in self._lost:
            one = device.residents.get(model)
            if one is None or not one.num_running:
                device.residents.pop(model, None)
                self._lost.discard(key)

    async def _holds(self, device: int, model: int) -> bool | None:
        """Whether an engine holds a model, None where it does not say."""
        try:
            return bool(await self._within(self._rules.answer_s,
                                           self._actuators[device][model].is_loaded()))
        except Exception:  # whatever it was, nothing is known
            return None

    # -- tasks ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Turn away who waits, stop what is under way, and close the actuators."""
        self._closed = True
        for wake in self._wakes:
            if wake is not None:
                wake[1].cancel()
        for request_id in tuple(self._waiting):
            self.policy.cancel(request_id)
            self._turn_away(request_id, "the gateway is closing", "closing", 1.0)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._quietly(one.close()) for row in self._actuators
                               for one in row))

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._note(f"a bug in Penstock: {task.exception()!r}")

    async def _quietly(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do what may fail, within the time of a load."""
        with suppress(Exception):
            await self._within(self._rules.load_timeout_s, work)

    async def _within(self, seconds: float, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of ``work``; it is cancelled, and TimeoutError raised, after so long."""
        task = asyncio.ensure_future(work)
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = task.cancel()

        timer = self._loop.call_at(self._loop.time() + seconds, expire)
        try:
            return await task
        except asyncio.CancelledError:
            if expired and task.cancelled():
                raise TimeoutError(f"not within {seconds:g} s") from None
            raise
        finally:
            timer.cancel()
