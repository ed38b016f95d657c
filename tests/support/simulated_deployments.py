"""Deployments, and a controller of simulated ones, for tests."""

import asyncio
from contextlib import asynccontextmanager
from functools import wraps

from penstock.core.configuration import Configuration
from penstock.core.hardware import Parallelism
from penstock.core.prediction import Prediction
from penstock.policy.place.penstock import PenstockPlacer
from penstock.policy.place.values import Footprint, Infeasible, Placement, Stage
from penstock.serving.deployments.choice import Decision
from penstock.serving.deployments.cluster import create_cluster
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import Dependencies, RestartPolicy
from penstock.serving.deployments.deployments import (
    Backoff,
    DeployIntent,
    Deployment,
    Expected,
    RefusedError,
)
from penstock.serving.deployments.engines import EngineError, SimulatedEngines
from penstock.serving.deployments.requests import make_queue
from penstock.serving.deployments.store import open_store

GIB = 1 << 30
PLACEMENT = Placement(Footprint("llama-2-7b", 4, 1, 2, GIB), (Stage(3, (0,)), Stage(1, (1,))))

FLEET = """\
name: four
accelerators: [{name: a6000, count: 4}]
models:
  - {name: llama-2-7b, precisions: [fp16, int4]}
  - {name: llama-2-13b, precisions: [fp16, int4]}
service_classes: [{name: all, slo: {e2e_s: 60}}]
traffic: [{model: llama-2-7b, rate_per_s: 1, num_requests: 10,
           lengths: {prompt: {fixed: 100}, output: {fixed: 20}}}]
"""


def deployment(name="a", **more):
    return Deployment(**{"name": name, "model": "llama-2-7b", "engine": "sim",
                         "registered_s": 0.0, "since_s": 0.0, **more})


def site_in(folder):
    (folder / "fleet.yaml").write_text(FLEET)
    return create_cluster(folder / "state", folder / "fleet.yaml")


class World:
    """What outlives a controller: its site, a clock that tests move, and simulated engines.

    Engines start when ``gate`` is set and answer when ``answers`` is; ``broken`` ones fail to
    start. ``num_gib`` is what each deployment takes on each of its accelerators, by name.
    """

    def __init__(self, folder):
        self.cluster = site_in(folder)
        self.now_s = 1000.0
        self.gate = asyncio.Event()
        self.answers = asyncio.Event()
        self.gate.set()
        self.answers.set()
        self.engines = SimulatedEngines(self._sleep, load_s=-1.0)
        self.broken = set()
        self.num_gib = {}
        self.deciding = asyncio.Event()
        self.deciding.set()
        self.used = {}
        self.neighbours = None
        self.bugs = []

    async def _sleep(self, duration_s):
        await (self.gate if duration_s < 0 else self.answers).wait()

    async def start(self, one, begun):
        await self.engines.start(one, begun)
        if one.name in self.broken:
            raise EngineError("it would not start")

    async def read_used(self, one):
        return self.used

    async def choose(self, one, intent, devices, neighbours):
        self.neighbours = neighbours
        gib, num = self.num_gib.get(one.name, (10, 1))
        footprint = Footprint(one.model, 2, 1, num, gib * GIB, fixed_bytes=0)
        found = PenstockPlacer().place(footprint, devices)
        await self.deciding.wait()
        if isinstance(found, Infeasible):
            raise RefusedError("no_room", found.reason)
        expected = Expected(Prediction(1.0, 0.5, 2.0, 0.9, "test"), None)
        configuration = Configuration(Parallelism(1, num), "int4", "fp16")
        return Decision(configuration, found, expected, {"name": one.name})

    async def profile(self, one, options, begun):
        await self.gate.wait()
        if one.name in self.broken:
            raise EngineError("nothing could be measured")
        return f"/profiles/{one.name}"

    def controller(self, queue=None):
        restart_policy = RestartPolicy(grace_s=1.0, failure_threshold=2,
                                       backoff=Backoff(first_s=1.0, most=2))
        return Controller(self.cluster, open_store(self.cluster.state_file),
                          Dependencies({"sim": Starter(self), "emulate": Starter(self)},
                                       self.choose,
                                self.profile, lambda: self.now_s, self.read_used, self.bugs.append),
                          queue or make_queue("penstock"), restart_policy)

    @asynccontextmanager
    async def open(self, queue=None):
        found = self.controller(queue)
        await found.recover()
        try:
            yield found
            found.check_integrity()
        finally:
            await found.close()


class Starter:
    """The world's engines, which may be broken."""

    def __init__(self, world):
        self.start = world.start
        self.is_alive = world.engines.is_alive
        self.is_healthy = world.engines.is_healthy
        self.ask = world.engines.ask
        self.stop = world.engines.stop


async def running(controller, name="a", batch=1, **more):
    """A deployment that runs."""
    controller.register(name, "llama-2-7b", "sim", {})
    await controller.deploy(name, DeployIntent(batch=batch), **more)
    return await controller.settled(name)


def free_gib(controller):
    return [device.free_bytes // GIB for device in controller.devices()]


def in_loop(test):
    """Runs a coroutine function as a test."""
    @wraps(test)
    def run(tmp_path):
        asyncio.run(test(tmp_path))

    del run.__wrapped__  # pytest would look for its arguments
    return run
