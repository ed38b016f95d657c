"""The cluster in memory as one controller reaches it, with faults, and controllers as processes."""

import asyncio
from typing import NamedTuple

from penstock.serving.kubernetes.actions import Scale, SetStatus
from penstock.serving.kubernetes.api import ClusterError
from penstock.serving.kubernetes.controller import Controller
from penstock.serving.kubernetes.election import Election
from penstock.serving.kubernetes.metrics import ControllerMetrics
from support.simulated_loop import SimulatedProcess

TIMEOUT_S = 10.0
"""Time for which a controller waits for an answer."""


class Moved(NamedTuple):
    """A number of replicas that a controller has set, and who held the Lease then."""

    at_s: float
    workload: str
    replicas: int
    by: str
    holder: str
    is_late: bool


class Front:
    """The cluster as one controller reaches it: ``api.Cluster`` with faults."""

    namespace, own_namespace = None, "ns"

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.is_cut = False

    async def list(self, kind):
        await self._arrive("read")
        return await self.world.there.list(kind)

    async def watch(self, kind, version):
        await self._arrive("watch")
        async for happening in self.world.there.watch(kind, version):
            if self.is_cut or self.world.has("server down"):
                raise ClusterError("the connection has ended")
            if self.world.has("slow watches"):
                await asyncio.sleep(self.world.rng.uniform(0.0, 4.0))
            yield happening

    async def get(self, kind, namespace, name):
        await self._arrive("read")
        return await self.world.there.get(kind, namespace, name)

    async def create(self, kind, document):
        await self._write(lambda: self.world.there.create(kind, document))

    async def replace(self, kind, document):
        await self._write(lambda: self.world.there.replace(kind, document))

    async def act(self, action):
        async def do(*, is_late=False):
            before = self._replicas(action)
            await self.world.there.act(action)
            if isinstance(action, Scale) and action.replicas != before:
                self.world.moved.append(Moved(
                    self.world.loop.time(), action.ref.name, action.replicas, self.name,
                    self.world.holder(), is_late))
        if self.world.has("webhook hangs") and not isinstance(action, SetStatus):
            if self.world.rng.random() < 0.5:  # what hangs is carried out when nobody waits for it
                self.world.server(self._later(do))
            await asyncio.sleep(TIMEOUT_S)
            raise ClusterError("the API server does not answer")
        await self._write(do)

    def _replicas(self, action):
        if not isinstance(action, Scale):
            return None
        return self.world.there.objects.get(tuple(action.ref), {"spec": {}})["spec"].get("replicas")

    async def _later(self, do):
        await asyncio.sleep(self.world.rng.uniform(10.0, 30.0))
        try:
            await do(is_late=True)
        except ClusterError:
            self.world.seen["late steps refused"] += 1

    async def _write(self, do):
        await self._arrive("write")
        await do()
        if self.world.has("answers lost") and self.world.rng.random() < 0.5:
            await asyncio.sleep(self.world.rng.choice((0.0, TIMEOUT_S)))
            raise ClusterError("the connection has ended")
        await asyncio.sleep(self.world.rng.uniform(0.0, 0.02))

    async def _arrive(self, what):
        world, rng = self.world, self.world.rng
        await asyncio.sleep(rng.uniform(0.0, 0.02))
        if self.is_cut or world.has("server down"):
            await asyncio.sleep(rng.choice((0.0, 0.0, TIMEOUT_S)))
            raise ClusterError("the API server does not answer")
        for kind, code, whats in (("throttling", 429, ("read", "write", "watch")),
                                  ("conflicts", 409, ("write",)),
                                  ("watches gone", 410, ("watch",))):
            if what in whats and world.has(kind) and rng.random() < 0.6:
                raise ClusterError(kind, code, rng.choice((1.0, 5.0)) if code == 429 else 0.0)


class Candidate:
    """A controller as a process."""

    def __init__(self, world, name, folder):
        self.name, self.notes = name, []
        self.process = SimulatedProcess(name, 0)
        self.front = Front(world, name)
        self.election = Election(self.front, "ns", name, world.loop.time, self.notes.append,
                                 world.now)
        self.controller = Controller(self.front, self.election, None, folder, ControllerMetrics(),
                                     self.notes.append, world.now, world.loop.time)
        world.all.append(self)
        self.task = world.loop.spawn(self.process, self.controller.run())

    @property
    def acts(self):
        """Whether it runs and would act."""
        return not (self.process.dead or self.process.frozen) and self.election.may_act
