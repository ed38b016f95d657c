"""One simulated schedule of faults, drawn from a seed: engines, clients, gateways, database."""

import asyncio
import gc
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from random import Random

from penstock.serving.gateway.limits import Limits
from penstock.serving.tenants.keys import Keyring, new_key
from support import simulated_engines as engines
from support.gateway_laws import final_violations, shared_violations_now, violations_now
from support.simulated_clients import SimulatedClient
from support.simulated_database import Database
from support.simulated_gateways import SimulatedGateway, fleet_of, in_simulation
from support.simulated_loop import DeadlockError, LivelockError, SimulatedLoop, SimulatedProcess
from support.simulated_network import SimulatedNetwork
from support.simulated_threads import SimulatedThreads

_GATEWAY_PORT, _ENGINE_PORT = 9000, 8000
_MOST_S = 600.0   # in which every client must have ended
_QUIET_S = 30.0   # in which every record must be written once nothing fails
DATABASE = Database()


def _make_keys():
    """Keys by their use, and their stored parts: of tenants, and of those who must find the door
    closed."""
    texts, keys, random = {"nobody": "", "stranger": "psk-000000000000-x"}, [], Random(0)
    for use, tenant in (("shop", "shop"), ("bar", "bar"), ("gone", "bar"), ("ghost", "ghost"),
                        ("admin", ""), ("leaver", "bar")):
        texts[use], key = new_key(tenant, 0.0, random.randbytes, admin=use == "admin")
        keys.append(replace(key, revoked_s=1.0 if use == "gone" else None))
    return texts, keys


TEXTS, KEYS = _make_keys()


class World:
    """Everything of one schedule. ``broken`` are the violations found so far."""

    def __init__(self, seed, *, traced=False, dishonest=True):
        self.seed = seed
        self.random = Random(seed)
        self.loop = SimulatedLoop(Random(f"loop {seed}"), shuffled=self.random.random() < 0.8)
        self.network = SimulatedNetwork(self.loop)
        self.threads = SimulatedThreads(self.loop)
        self.database = DATABASE
        self.faults = Counter()
        self.broken = []
        self.trace = []
        self.heard = []
        self.answers = []
        self.all_gateways = []
        self.keys = TEXTS
        self.revoked = {}     # key -> when
        self._traced = traced
        self._dishonest = dishonest
        self.journal_s = self.random.choice((0.05, 0.3, 1.0))
        self.watched_s = self.random.choice((1.0, 5.0, 20.0))
        self._pids = iter(range(100, 1000))

    def note(self, who, text):
        """Add to the trace."""
        self.trace.append((self.loop.time(), str(who), text))
        if self._traced:
            print(f"{self.loop.time() - 1000.0:11.6f}  {who}: {text}")

    def run(self):
        """Run the schedule. Returns the violated laws."""
        gc.disable()  # no finalizer runs at another moment of a replay
        try:
            with in_simulation(self):
                self._prepare()
                try:
                    self.loop.run_until_complete(self._whole())
                except (DeadlockError, LivelockError) as error:
                    self.broken.append(f"stuck: {type(error).__name__} {error}")
            self.troubles = [f"{one.get('message')}: {one.get('exception')!r}"
                             for one in self.loop.troubles]
            self.broken += final_violations(self)
            with warnings.catch_warnings():
                # The connections of a killed gateway were never closed.
                warnings.simplefilter("ignore")
                self._bury()
                gc.collect(0)
        finally:
            gc.enable()
        return self.broken

    @property
    def gateways(self):
        """Where clients find gateways."""
        return self._slots

    # -- what is drawn --------------------------------------------------------------------------

    def _prepare(self):
        random = self.random
        self.database.reset(self.threads, Random(f"database {self.seed}"), self._database_failed,
                            KEYS)
        self.budget = random.choice((0.0001, 0.0002, 5.0, 5.0))
        ports = tuple(range(_ENGINE_PORT, _ENGINE_PORT + random.randint(1, 3)))
        self.fleet = fleet_of(ports, self.budget)
        self.limits = Limits(random.randint(1, 4), random.randint(0, 4), random.randint(1, 3),
                             connect_s=1.0, silence_s=random.choice((0.4, 2.0)))
        self.engines = [self._engine(port) for port in ports]
        self._hosts = random.choice((("host",), ("host a", "host b")))
        self._slots = [self._gateway(slot) for slot in range(1 if random.random() < 0.7 else 2)]
        self.one_at_a_time = len(self._slots) == 1

    def _engine(self, port):
        random = self.random
        bad = engines.FAULTS + (engines.DISHONEST if self._dishonest else ())
        faults = random.sample(bad, random.randint(0, 4))
        moods = list(engines.HONEST) * (1 + len(faults) if random.random() < 0.5 else 1) + faults
        return engines.SimulatedEngine(self, f"engine {port}", port, moods)

    def _gateway(self, slot):
        made = SimulatedGateway(self, f"gateway {slot}.{len(self.all_gateways)}",
                                next(self._pids), self.random.choice(self._hosts),
                                _GATEWAY_PORT + slot, self.limits)
        self.all_gateways.append(made)
        return made

    def _client(self, number):
        random = self.random
        use = random.choice(("shop", "shop", "shop", "bar", "bar", "leaver",
                             random.choice(("nobody", "stranger", "gone", "ghost", "admin"))))
        leaves = random.choice((None, None, None, random.choice((0.0, 0.001, 0.01, 0.1, 1.0))))
        return SimulatedClient(self, f"client {number}", self.keys[use], random.random() < 0.7,
                               random.randint(1, 8), leaves, random.choice((0, 0, 2)),
                               random.choice((None, None, f"request {number}")))

    def _database_failed(self, kind):
        self.faults["database: " + kind] += 1
        self.note("database", kind)

    # -- the schedule ---------------------------------------------------------------------------

    async def _whole(self):
        for engine in self.engines:
            engine.process = SimulatedProcess(engine.name, 1)
            await self.loop.spawn(engine.process, engine.start())
        for slot in self._slots:
            slot.start()
        if self.random.random() < 0.9:
            await self._all_ready()
        work = [asyncio.create_task(one) for one in self._disturbances()]
        span_s = self.random.choice((0.0, 0.05, 0.5, 3.0))
        clients = []
        for number in range(self.random.randint(3, 10)):
            client = self._client(number)
            clients.append(asyncio.create_task(self._later(self.random.random() * span_s,
                                                           client.run())))
        try:
            async with asyncio.timeout(_MOST_S):
                await asyncio.gather(*clients, *work)
        except TimeoutError:
            self.broken.append("stuck: a client hears nothing, and is not cut off")
        await self._calm_down()
        for gateway in self._slots:
            gateway.stopping.set()
            await asyncio.wait([gateway.task], timeout=120.0)
            if not gateway.task.done():
                self.broken.append(f"stuck: {gateway} does not stop")
            elif (error := gateway.task.exception()) is not None:
                self.broken.append(f"{gateway.name} failed: {error!r}")
        # Whoever comes next resolves what is left.
        wall_s = 1_750_000_000.0 + self.loop.time() + 3600.0
        dead = self.database.store.dead("auditor", "", lambda *_: False, wall_s)
        self.database.store.resolve(dead, wall_s)

    async def _all_ready(self):
        for gateway in self._slots:
            await self._begun(gateway)
            if gateway.task.done() and (error := gateway.task.exception()) is not None:
                self.broken.append(f"{gateway.name} does not start: {error!r}")

    async def _begun(self, gateway):
        ready = asyncio.create_task(gateway.ready.wait())
        await asyncio.wait([ready, gateway.task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()

    async def _calm_down(self):
        """End every fault, and wait until nothing is left to be done."""
        self.database.down, self.database.slow_s = False, 0.0
        self.database.fails_share = self.database.loses_share = 0.0
        for engine in self.engines:
            engine.well, engine.moods = True, ("well",)
        for number, gateway in enumerate(self._slots):
            if gateway.process.frozen:
                self.loop.thaw(gateway.process)
            if gateway.alive:  # its start may still fail by a fault that was on its way
                await self._begun(gateway)
            if not gateway.alive:
                self._slots[number] = self._gateway(number)
                self._slots[number].start()
        await self._all_ready()
        for _ in range(int(_QUIET_S / 0.5)):
            if not (left := [one for gateway in self._slots for one in _unsettled(gateway)]):
                break
            await asyncio.sleep(0.5)
        else:
            self.broken.append(f"counters: not zero {_QUIET_S:g} s after the last client: {left}")
        if self.random.random() < 0.3:
            await self._serves_again()

    async def _serves_again(self):
        """A well gateway before well engines answers, sooner or later."""
        for gateway in self._slots:
            for url, since_s, _ in gateway.drained:
                await self._drain(gateway, url, False, since_s)
            for engine in self.engines:  # a drain may have been accepted without an answer
                await self._drain(gateway, f"http://127.0.0.1:{engine.port}", False, None)
            for _ in range(100):
                client = SimulatedClient(self, "last client", self.keys["bar"], True, 2, None, 0)
                before = self._slots
                self._slots = [gateway]
                await client.run()
                self._slots = before
                if self.heard[-1].status == 200:
                    break
                await asyncio.sleep(1.0)
            else:
                self.broken.append(f"stuck: {gateway.name} serves nobody: {self.heard[-1].code}")

    async def _later(self, seconds, work):
        await asyncio.sleep(seconds)
        await work

    # -- faults ---------------------------------------------------------------------------------

    def _disturbances(self):
        random = self.random
        kinds = [self._kills, self._kills, self._freezes, self._database_goes,
                 self._database_slow, self._database_flaky, self._database_flaky, self._drains,
                 self._revokes, self._stops, self._engine_dies, self._engine_silent]
        for kind in random.sample(kinds, random.choice((0, 1, 1, 2, 2, 3, 4))):
            yield self._later(random.choice((0.0, 0.05, 0.5, 2.0)) * random.random(), kind())

    async def _kills(self):
        for _ in range(self.random.choice((1, 1, 2))):
            number = self.random.randrange(len(self._slots))
            gateway = self._slots[number]
            if gateway.alive:
                self._did(gateway, "is killed")
                gateway.kill()
                await asyncio.sleep(self.random.choice((0.0, 0.1, 1.0)))
                await self._restart(number)
            await asyncio.sleep(self.random.random())

    async def _restart(self, number):
        self._slots[number] = self._gateway(number)
        self._slots[number].start()

    async def _stops(self):
        """SIGTERM, and a new gateway when the old one has ended."""
        number = self.random.randrange(len(self._slots))
        gateway = self._slots[number]
        if gateway.alive:
            self._did(gateway, "is told to stop")
            gateway.stopping.set()
            await asyncio.wait([gateway.task], timeout=100.0)
            await self._restart(number)

    async def _freezes(self):
        gateway = self.random.choice(self._slots)
        self._did(gateway, "is frozen")
        self.loop.freeze(gateway.process)
        await asyncio.sleep(self.random.choice((0.1, 1.0, 5.0, 15.0, 70.0)))
        self.loop.thaw(gateway.process)
        self.note(gateway.name, "thaws")

    async def _database_goes(self):
        self._did("database", "goes away")
        self.database.down = True
        await asyncio.sleep(self.random.choice((0.01, 0.5, 2.5, 15.0)))
        self.database.down = False
        self.note("database", "comes back")

    async def _database_slow(self):
        self._did("database", "is slow")
        self.database.slow_s = self.random.choice((0.1, 1.0, 4.0))
        await asyncio.sleep(self.random.random() * 4.0)
        self.database.slow_s = 0.0

    async def _database_flaky(self):
        self.database.fails_share = self.random.choice((0.0, 0.3))
        self.database.loses_share = self.random.choice((0.0, 0.3, 0.6))
        await asyncio.sleep(self.random.random() * 5.0)
        self.database.fails_share = self.database.loses_share = 0.0

    async def _drains(self):
        gateway, engine = self.random.choice(self._slots), self.random.choice(self.engines)
        url = f"http://127.0.0.1:{engine.port}"
        if await self._drain(gateway, url, True, None):
            self._did(engine.name, f"is drained at {gateway.name}")
            since_s = self.loop.time()
            gateway.drained.append((url, since_s, None))
            await asyncio.sleep(self.random.random() * 3.0)
            if self.random.random() < 0.5:
                await self._drain(gateway, url, False, since_s)

    async def _drain(self, gateway, url, drain, since_s):
        if not drain:
            gateway.drained = [(one, since, self.loop.time() if since == since_s and one == url
                                and until is None else until)
                               for one, since, until in gateway.drained]
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            body = f'{{"url":"{url}","drain":{str(drain).lower()}}}'
            writer.write(f"POST /v1/penstock/engines/drain HTTP/1.1\r\nHost: localhost\r\n"
                         f"Authorization: Bearer {self.keys['admin']}\r\n"
                         f"Content-Type: application/json\r\nContent-Length: {len(body)}"
                         f"\r\n\r\n{body}".encode())
            try:
                async with asyncio.timeout(5.0):
                    head = await reader.readuntil(b"\r\n\r\n")
                return head.startswith(b"HTTP/1.1 200")
            finally:
                writer.close()
        return False

    async def _revokes(self):
        key = Keyring(self.database.store.list_keys()).find(self.keys["leaver"])
        self.database.store.revoke_key(key.key_id, 1.0)
        self.revoked[self.keys["leaver"]] = self.loop.time()
        self._did("admin", "revokes a key")

    async def _engine_dies(self):
        engine = self.random.choice(self.engines)
        self._did(engine.name, "dies")
        self.loop.kill(engine.process)
        await asyncio.sleep(self.random.choice((0.1, 1.0, 5.0)))
        engine.process = SimulatedProcess(engine.name, 1)
        await self.loop.spawn(engine.process, engine.start())
        self.note(engine.name, "is back")

    async def _engine_silent(self):
        engine = self.random.choice(self.engines)
        self._did(engine.name, "is cut off from the network")
        self.network.silent.add(engine.port)
        await asyncio.sleep(self.random.choice((0.5, 3.0)))
        self.network.silent.discard(engine.port)

    def _did(self, who, what):
        who = getattr(who, "name", who)
        self.faults[f"{who.split()[0]}: {what.split(' at ')[0]}"] += 1
        self.note(who, what)

    def watch(self):
        """Check the laws that hold at every instant."""
        for gateway in self.all_gateways:
            if gateway.alive and gateway.product is not None:
                self.broken += violations_now(gateway)
        self.broken += shared_violations_now(self)

    def _bury(self):
        for one in (*self.all_gateways, *self.engines):
            self.loop.kill(one.process)
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False
        self.loop.close()
        for gateway in self.all_gateways:
            gateway.bury()
        for engine in self.engines:
            self.loop.bury(engine.process)
        self.loop.troubles.clear()


def _unsettled(gateway):
    """What a gateway still has in progress, by its own counters."""
    if gateway.product is None or not gateway.alive:
        return [f"{gateway.name} is not up"]
    proxy, gate = gateway.product._proxy, gateway.gate
    found = {"in flight": proxy.admission.num_in_flight, "waiting": proxy.admission.num_waiting,
             "leases": len(gate._open),
             "unwritten": gate.ledger._num_put - gate.ledger._num_written,
             **{f"on {one.facts.url}": len(one.in_flight) for one in gateway.product.engines}}
    for name, quota in gate._quotas.items():
        found |= {f"{name}'s places": quota.in_flight, f"{name}'s holds": quota.account.reserved,
                  f"{name}'s unwritten": quota.account.unwritten}
    return [f"{gateway.name} {name}: {number}" for name, number in found.items() if number]
