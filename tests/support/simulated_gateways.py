"""Gateways of simulated schedules: the whole product, in processes of the simulated machines.

``in_simulation`` puts simulated time, threads, network and database in the place of the real ones,
wherever the product and aiohttp ask the operating system for them.
"""

import asyncio
import time
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from types import SimpleNamespace
from unittest.mock import patch

import aiohappyeyeballs
import aiohttp

from penstock.engines.client.watch import Watcher
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving import overload
from penstock.serving.gateway import running, server
from penstock.serving.tenants import ledger, liveness, opening, slice_store, store
from support.simulated_loop import PROCESS, SimulatedProcess
from support.simulated_network import HOST
from support.simulated_threads import SimulatedQueue
from support.small_fleet import FLEET

WALL_S = 1_750_000_000.0
PRICE = {"input_per_million": 0.1, "output_per_million": 10.0}
SHOP_PLACES = 3


@lru_cache
def fleet_of(ports, budget):
    """The fleet file's values, with two tenants."""
    return parse_fleet(FLEET, overrides={
        "accelerators": [{"name": "a100-80gb", "count": 64}],
        "models": [{"name": "llama-3-8b", "price": PRICE}],
        "replicas": [{"count": len(ports), "endpoints": [f"http://{HOST}:{p}" for p in ports]}],
        "gateway": {"tenants": [
            {"name": "shop", "budget": {"amount": budget}, "max_in_flight": SHOP_PLACES},
            {"name": "bar"}]}})


class SimulatedGateway:
    """One run of ``penstock serve``. ``leases`` are those it admitted, ``ends`` the decisions that
    it logged as ended."""

    def __init__(self, world, name, pid, host, port, limits):
        self.world = world
        self.name = name
        self.port = port
        self.limits = limits
        self.process = SimulatedProcess(name, pid)
        self.process.host = host
        self.process.gateway = self
        self.ready = asyncio.Event()
        self.stopping = asyncio.Event()
        self.product = None
        self.gate = None
        self.leases = {}
        self.ends = []
        self.was_killed = False
        self.could_not_write = False  # it said so at its end
        self.open_when_killed = []
        self.drained = []  # (URL, from when, until when)
        self.task = None
        self.sessions = []

    @property
    def alive(self):
        return not self.process.dead and self.task is not None and not self.task.done()

    def start(self):
        """Run the gateway as a task of its process."""
        self.task = self.world.loop.spawn(self.process, self._run())

    def kill(self):
        """SIGKILL."""
        self.was_killed = True
        if self.gate is not None:
            self.open_when_killed = [row for row in self.world.database.open_requests()
                                     if row.gateway == self.gate.ledger.gateway]
        self.world.loop.kill(self.process)

    def bury(self):
        """Unwind what is left of a killed gateway, quietly."""
        self.world.loop.bury(self.process)
        for session in self.sessions:
            if not session.closed:
                session.connector._closed = True
                session.detach()
        self.product = self.task = None

    def trouble(self):
        """Why records cannot be written now, as the gateway itself says; None where they can."""
        return None if self.gate is None else self.gate.ledger.trouble

    def add(self, document):
        """A decision has ended (``DecisionLog``)."""
        if self.process.dead:
            return
        self.ends.append(document)
        self.world.note(self.name, f"ends {document['decision_id']}: {document['outcome']}")

    async def written(self):
        """Decisions are kept at once."""

    async def _run(self):
        world = self.world
        async with running.running(world.fleet, LeastLoaded(), HOST, self.port,
                                   limits=self.limits, access=running.Access("simulated"), log=self,
                                   on_bug=self._note):
            self.ready.set()
            world.note(self.name, "is ready")
            await self.stopping.wait()
        world.note(self.name, "has stopped")

    def _note(self, text):
        if self.process.dead:  # it is being unwound
            return
        self.world.note(self.name, text)
        self.could_not_write |= "could not be written" in text
        if "Traceback" in text:
            self.world.broken.append(f"{self.name} met a bug: {text}")


class _SeenGateway(server.Gateway):
    """A gateway whose parts the laws may look at."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        seen = PROCESS.get().gateway
        seen.product = self


class _SeenGate(opening.TenantGate):
    """A gate whose leases the laws may look at."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        PROCESS.get().gateway.gate = self

    def _take(self, ask, quota, wants, decision_id, kept, now_s):
        lease = super()._take(ask, quota, wants, decision_id, kept, now_s)
        PROCESS.get().gateway.leases[decision_id] = lease
        return lease


def _session(make, *arguments, **more):
    """A session of the gateway that asks for one."""
    session = make(*arguments, **more)
    PROCESS.get().gateway.sessions.append(session)
    return session


def _signal(world, pid, _):
    """``os.kill(pid, 0)``."""
    if not any(one.process.pid == pid and one.alive for one in world.all_gateways):
        raise ProcessLookupError


@contextmanager
def in_simulation(world):
    """Everything that happens meanwhile is simulated."""
    loop, threads = world.loop, world.threads
    names = iter(range(10**9))
    places = [
        (time, "monotonic", loop.time), (time, "time", lambda: WALL_S + loop.time()),
        (time, "sleep", threads.sleep),
        (aiohappyeyeballs, "start_connection", world.network.start_connection),
        (aiohttp, "ClientSession", partial(_session, aiohttp.ClientSession)),
        (ledger, "threading", SimpleNamespace(Thread=threads.thread)),
        (ledger, "SimpleQueue", partial(SimulatedQueue, threads)),
        (liveness, "os", SimpleNamespace(name="posix", kill=partial(_signal, world),
                                         getpid=lambda: PROCESS.get().pid)),
        (liveness, "socket", SimpleNamespace(gethostname=lambda: PROCESS.get().host)),
        (slice_store, "_CLOCKS", {}),  # the time of day is simulated, and the database has no other
        (ledger, "uuid4", lambda: SimpleNamespace(hex=f"ledger-{next(names)}")),
        (server, "token_hex", lambda _: f"{next(names)}"),
        (store, "token_hex", lambda num_bytes: "7a" * num_bytes),
        (opening, "JOURNAL_S", world.journal_s),
        # Looks at engines and at the machine take time, so there are fewer.
        (running, "Watcher", partial(Watcher, period_s=world.watched_s)),
        (overload, "_TICK_S", 0.5),
        (overload, "resident_bytes", lambda: 2**28), (overload, "machine_bytes", lambda: 2**36),
        (running, "Gateway", _SeenGateway), (opening, "TenantGate", _SeenGate),
        (store, "open_store", lambda _: world.database.connect())]
    with ExitStack() as stack:
        for place in places:
            stack.enter_context(patch.object(*place))
        yield
