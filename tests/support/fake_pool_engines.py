"""Engines that take turns on a device, in made-up time: a policy, actuators that do as told."""

import asyncio
from collections import deque
from contextlib import contextmanager
from math import inf

from penstock.engines.actuators.protocol import ActuatorError
from penstock.policy.multiplex.device import Device
from penstock.policy.multiplex.values import Batch, BatchTime, HostedModel, Load, Wait
from penstock.serving.multiplex.driver import MultiplexDriver
from penstock.serving.multiplex.tickets import RefusedError, Rules
from support.fake_clock import FakeLoop, settle

MOST_EVENTS = 20_000


class FirstCome:
    """Serves the oldest request; evicts whoever is idle and was used longest ago. What failed goes
    to the front of the line."""

    def __init__(self, num_models, *, least_batch=1):
        self.queue = deque()
        self.least_batch = least_batch
        self.shed = deque()

    @property
    def num_waiting(self):
        return len(self.queue)

    def add(self, request, now_s):
        self.queue.append(request)

    def next(self, device, now_s):
        if self.shed:
            return self.shed.popleft()
        for request in self.queue:
            if device.room(request.model):
                own = [one for one in self.queue if one.model == request.model]
                batch = tuple(own[:device.room(request.model)])
                if len(batch) >= self.least_batch:
                    self.queue = deque(one for one in self.queue if one not in batch)
                    return Batch(request.model, batch)
        if device.loading is None:
            for request in self.queue:
                if request.model not in device.residents:
                    load = self._load(device, request.model)
                    if load is not None:
                        return load
        return Wait(inf)

    def _load(self, device, model):
        evict = []
        idle = sorted((one.last_used_s, index) for index, one in device.residents.items()
                      if not one.num_running)
        while not device.fits(model, evict):
            if not idle:
                return None
            evict.append(idle.pop(0)[1])
        return Load(model, tuple(evict))

    def loaded(self, device, model, now_s, *, failed):
        pass

    def ended(self, device, batch, now_s, *, failed):
        if failed:
            self.queue.extendleft(reversed(batch.requests))

    def cancel(self, request_id):
        before = len(self.queue)
        self.queue = deque(one for one in self.queue if one.request_id != request_id)
        return len(self.queue) < before


class FakeEngine:
    """An engine whose loads take ``load_s`` of a fake loop's time, and fail or hang if told to;
    to unload takes ``unload_s``. ``clashes`` says what was asked while the other was under way."""

    def __init__(self, name, loop, log, load_s=5.0, unload_s=0.0):
        self.name = name
        self.loop = loop
        self.log = log
        self.load_s = load_s
        self.unload_s = unload_s
        self.under_way = None
        self.clashes = []
        self.held = False
        self.fails = 0
        self.hangs = False
        self.says = None
        self.unload_fails = False

    @property
    def url(self):
        return f"http://{self.name}" if self.held else None

    async def _sleep(self, seconds):
        done = asyncio.get_running_loop().create_future()
        self.loop.call_at(self.loop.time() + seconds, lambda: done.done() or done.set_result(None))
        await done

    @contextmanager
    def _alone(self, what):
        if self.under_way is not None:
            self.clashes.append((what, self.under_way, self.loop.time()))
        before, self.under_way = self.under_way, what
        try:
            yield
        finally:
            self.under_way = before

    async def load(self):
        self.log.append(("load", self.name, self.loop.time()))
        with self._alone("load"):
            await self._sleep(inf if self.hangs else self.load_s)
        if self.fails:
            self.fails -= 1
            raise ActuatorError(f"{self.name} has no file")
        self.held = True

    async def unload(self):
        self.log.append(("unload", self.name, self.loop.time()))
        with self._alone("unload"):
            if self.unload_s:
                await self._sleep(self.unload_s)
        if self.unload_fails:
            raise ActuatorError("stays")
        self.held = False

    async def is_loaded(self):
        if self.says == "nothing":
            raise ActuatorError("does not say")
        return self.held

    async def prefetch(self):
        self.log.append(("prefetch", self.name, self.loop.time()))

    async def close(self):
        self.log.append(("close", self.name, self.loop.time()))


class Stage:
    """A driver in fake time with everything around it. A model takes 10 of ``memory`` bytes."""

    def __init__(self, num_models=3, memory=20, num_devices=1, policy=None, continuous=True,
                 max_batch=4, request_bytes=0, **rules):
        self.loop = FakeLoop()
        self.log = []
        self.notes = []
        names = [f"m{index}" for index in range(num_models)]
        models = [HostedModel(name, 10, BatchTime(1.0, 0.1), request_bytes, max_batch)
                  for name in names]
        self.devices = [Device(index, memory, models, continuous=continuous)
                        for index in range(num_devices)]
        self.engines = [[FakeEngine(name, self.loop, self.log) for name in names]
                        for _ in self.devices]
        self.policy = policy or FirstCome(num_models)
        self.driver = MultiplexDriver(self.policy, self.devices, self.engines, Rules(**rules),
                                      self.loop, self.notes.append)
        self.answered = []
        self.refused = []

    async def ask(self, model, service_s=1.0, ends=(), deadline_after_s=inf):
        """A client: waits for its turn, is served for so long, and tries again as often as
        ``ends`` says that the engine failed it. What came of it is kept."""
        try:
            ticket = await self.driver.enter(model, deadline_after_s)
            for _ in ends:
                await self._served(ticket, service_s)
                ticket = await self.driver.retry(ticket)
            await self._served(ticket, service_s)
            self.driver.leave(ticket)
            self.answered.append((model, self.loop.time(), ticket.url))
        except RefusedError as error:
            self.refused.append((model, self.loop.time(), error.code, str(error)))

    async def _served(self, ticket, service_s):
        try:
            await self.engines[0][0]._sleep(service_s)
        except asyncio.CancelledError:
            self.driver.leave(ticket, "left")
            raise

    def begin(self, *args, **more):
        return asyncio.ensure_future(self.ask(*args, **more))

    async def until(self, at_s=inf):
        """Let time pass until then, or until nothing is due."""
        await settle()
        for _ in range(MOST_EVENTS):
            if self.loop.next_s > at_s or self.loop.next_s == inf:
                break
            self.loop.now_s = max(self.loop.now_s, self.loop.next_s)
            self.loop.fire()
            await settle()
        else:
            raise AssertionError(f"still at it at {self.loop.now_s} s: {self.log[-6:]}")
        if at_s < inf:
            self.loop.now_s = max(self.loop.now_s, at_s)

    def did(self, what):
        return [name for kind, name, _ in self.log if kind == what]
