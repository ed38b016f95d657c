"""Random verbs, interleaved at every wait, with engines that die and controllers that are killed.

Whatever happens: no state follows another that may not, memory that is held is that of deployments
that hold it and never more than there is, no engine runs that no deployment knows of, every request
ends, and after a kill everything is as it was written.
"""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given

from penstock.core.errors import InputError
from penstock.serving.deployments.controller import Controller
from penstock.serving.deployments.dependencies import Dependencies, RestartPolicy
from penstock.serving.deployments.deployments import (
    FOLLOWING,
    Backoff,
    DeployIntent,
    RefusedError,
    State,
)
from penstock.serving.deployments.engines import EngineError
from penstock.serving.deployments.requests import make_queue
from penstock.serving.deployments.store import open_store
from support.scaled_examples import examples
from support.simulated_deployments import GIB, World, deployment, site_in
from support.strategies import deployment_scripts

NAMES = ("a", "b", "c")
VERBS = {"register", "profile", "deploy", "infer", "remove", "restart", "dry_run"}


class KilledError(BaseException):
    """The controller was killed: nothing that it does counts any more."""


class Mortal:
    """What a controller reaches the world by, until it is killed."""

    def __init__(self, inner):
        self.inner = inner
        self.dead = False

    def __getattr__(self, name):
        found = getattr(self.inner, name)
        if not asyncio.iscoroutinefunction(found):
            def call(*arguments, **more):
                if self.dead:
                    raise KilledError
                return found(*arguments, **more)

            return call

        async def later(*arguments, **more):
            if self.dead:
                raise KilledError
            return await found(*arguments, **more)

        return later


class WatchedStore:
    """Notes every change of state."""

    def __init__(self, store):
        self._store = store
        self._states = {one.name: one.state for one in store.deployments()}
        self.deployments, self.events, self.close = store.deployments, store.events, store.close

    def write(self, changed):
        for one in changed:
            before = self._states.get(one.name)
            assert before in (None, one.state) or one.state in FOLLOWING[before], (before, one)
            assert (before is None) <= (one.state == State.REGISTERED)
            self._states[one.name] = one.state
        self._store.write(changed)


class Run:
    """One controller after another over one world."""

    def __init__(self, folder):
        self.world = World(folder)
        self.world.num_gib = {"a": (15, 1), "b": (12, 2), "c": (20, 2)}
        self.calls = []
        self.registered = set()
        self._own = asyncio.all_tasks()
        # What was killed is not told of its death in the log.
        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)

    async def open(self):
        self.store = Mortal(WatchedStore(open_store(self.world.cluster.state_file)))
        self.engines = Mortal(self.world.engines)
        world, engines = self.world, self.engines

        class Starter:
            def __init__(self):
                self.is_alive, self.is_healthy = engines.is_alive, engines.is_healthy
                self.ask, self.stop = engines.ask, engines.stop

            async def start(self, one, begun):
                await engines.start(one, begun)
                if one.name in world.broken:
                    raise EngineError("it would not start")

        dependencies = Dependencies({"sim": Starter()}, world.choose, world.profile,
                                    lambda: world.now_s,
                      world.read_used, self.bug)
        self.control = Controller(world.cluster, self.store, dependencies, make_queue("penstock",
                                                                                      1.0),
                                  RestartPolicy(grace_s=1.0, failure_threshold=1,
                                                backoff=Backoff(1.0, 4.0, 2)))
        await self.control.recover()
        self.check()

    def bug(self, text):
        if not text.startswith("KilledError"):
            self.world.bugs.append(text)

    async def kill(self):
        """As SIGKILL: no handler runs to any effect, and the lock is the system's."""
        before = self.control.deployments()
        self.store.dead = self.engines.dead = True
        tasks = asyncio.all_tasks() - self._own - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.calls.clear()
        self.store.inner.close()
        return before

    def check(self):
        self.control.check_integrity()
        for device in self.control.devices():
            assert 0 <= device.used_bytes <= 48 * GIB
        known = {one.instance.url for one in self.control.deployments() if one.instance}
        assert self.world.engines.living <= known
        assert {one.name for one in self.control.deployments()} == self.registered

    def call(self, verb, name, flag):
        async def answered():
            try:
                if verb == "register":
                    self.control.register(name, "llama-2-7b", "sim", {})
                    self.registered.add(name)
                elif verb in ("deploy", "dry_run"):
                    await self.control.deploy(name, DeployIntent(batch=1 + flag),
                                              dry_run=verb == "dry_run")
                elif verb == "infer":
                    reply = await self.control.infer(name, {"prompt": "x"}, head=flag)
                    assert reply.output_tokens == 100
                elif verb == "remove":
                    await self.control.remove(name, cancel=flag)
                elif verb == "profile":
                    await self.control.profile(name, {})
                else:
                    await self.control.restart(name)
            except (RefusedError, InputError):
                return

        self.calls.append(asyncio.create_task(answered()))

    async def event(self, what, name, flag):
        world = self.world
        if what == "tend":
            world.now_s += 1.0
            self.calls.append(asyncio.create_task(self.control.reconcile()))
        elif what == "die":
            one = next((one for one in self.control.deployments() if one.name == name), None)
            if one is not None and one.instance is not None:
                world.engines.kill(one.instance)
        elif what == "kill":
            before = await self.kill()
            await self.open()
            unharmed = [one for one in before if one.state in (
                State.REGISTERED, State.PROFILED, State.FAILED, State.REMOVED)]
            assert all(self.control.show(one.name) == one for one in unharmed)
        elif what in ("gate", "answers"):
            gate = getattr(world, what)
            gate.set() if flag else gate.clear()
        elif what == "break":
            world.broken.symmetric_difference_update({name})
        else:
            for _ in range(20 if flag else 2):
                await asyncio.sleep(0)

    async def end(self):
        """Let everything come to its end, and remove all of it."""
        self.world.gate.set()
        self.world.answers.set()
        done = await asyncio.gather(*self.calls, return_exceptions=True)
        for name in sorted(self.registered):
            await self.control.settled(name)
        assert all(one is None for one in done), done
        self.check()
        for one in self.control.deployments():
            if one.state != State.REMOVED:
                await self.control.remove(one.name)
            gone = await self.control.settled(one.name)
            assert gone.state == State.REMOVED, (self.world.bugs, gone)
            assert self.control.load(one.name) == (0, 0)
        self.check()
        assert not self.world.engines.living
        assert all(device.used_bytes == 0 for device in self.control.devices())
        assert not self.world.bugs
        await self.control.close()


@examples(60)
@given(deployment_scripts(NAMES))
def test_whatever_happens(script):
    async def work(folder):
        run = Run(folder)
        await run.open()
        for name in NAMES[:2]:
            run.call("register", name, False)
        for what, name, flag in script:
            if what in VERBS:
                run.call(what, name, flag)
            else:
                await run.event(what, name, flag)
            run.check()
        await run.end()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(asyncio.wait_for(work(Path(folder)), 30))


def test_the_watched_store_notices_an_illegal_change(tmp_path):
    cluster = site_in(tmp_path)
    store = WatchedStore(open_store(cluster.state_file))
    store.write([deployment()])
    try:
        store.write([deployment(state=State.RUNNING)])
    except AssertionError:
        return
    finally:
        store.close()
    raise AssertionError("it was not noticed")
