"""The verbs of deployments, and the care for those that run.

Every verb checks the state, changes it on disk and in memory in one step that nothing interrupts,
and leaves what takes time to a task. So two deploys cannot book the same memory, and whatever is
killed in between is found on disk by ``recover``.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from penstock.core.errors import InputError
from penstock.engines import process
from penstock.engines.discreet_log import trace_of
from penstock.policy.place.values import Device
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.serving.deployments.choice import Decision
from penstock.serving.deployments.cluster import Cluster
from penstock.serving.deployments.commands import checked_options
from penstock.serving.deployments.dependencies import USUAL, Care, Dependencies
from penstock.serving.deployments.deployments import (
    AT_WORK,
    FOLLOWING,
    DeployIntent,
    Deployment,
    Instance,
    RefusedError,
    State,
    after_crash,
    check_name,
    failed_again,
    moved,
)
from penstock.serving.deployments.engines import EngineError, Engines, Reply
from penstock.serving.deployments.observations import Observation, Observations
from penstock.serving.deployments.records import DeploymentRecords
from penstock.serving.deployments.requests import RequestQueue, make_queue
from penstock.serving.deployments.store import Event, Store

_TRIES = 3


class Controller:
    """The deployments of a cluster. One event loop owns the controller; call ``recover`` first and
    ``close`` at the end. Engines go on after it."""

    def __init__(self, cluster: Cluster, store: Store, dependencies: Dependencies,
                 queue: ExclusiveDeviceQueue | None = None, care: Care = USUAL) -> None:
        self._cluster = cluster
        self._dependencies = dependencies
        self._care = care
        self._records = DeploymentRecords(cluster, store)
        self._requests = RequestQueue(queue or make_queue("penstock"), dependencies.clock)
        self._observations = Observations()
        self._locks: dict[str, asyncio.Lock] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._missed: dict[str, int] = {}

    # -- looking ----------------------------------------------------------------------------------

    def deployments(self) -> list[Deployment]:
        """All deployments by name, removed ones included."""
        return self._records.deployments()

    def show(self, name: str) -> Deployment:
        """One deployment. Raises InputError for a name that nobody registered."""
        return self._records[name]

    def events(self, name: str) -> list[Event]:
        """The states that a deployment came into, the oldest first."""
        return self._records.events(name)

    def load(self, name: str) -> tuple[int, int]:
        """How many requests of a deployment wait, and how many run."""
        return self._requests.of(name)

    def seen(self, name: str) -> Observation | None:
        """Return the observed latency of a deployment's answers, None where none was measured."""
        return self._observations.of(self.show(name))

    def devices(self) -> list[Device]:
        """The accelerators beside all that is held."""
        return self._records.devices()

    def check_integrity(self) -> None:
        """Raises AssertionError where memory that is held and deployments that hold it differ."""
        self._records.check_integrity()

    # -- verbs ------------------------------------------------------------------------------------

    def register(self, name: str, model: str, engine: str,
                 options: Mapping[str, Any]) -> Deployment:
        """A new deployment, or a removed one anew. Raises InputError, RefusedError."""
        check_name(name)
        self._cluster.model(model)
        found = checked_options(engine, options)
        now_s = self._dependencies.clock()
        fresh = Deployment(name, model, engine, now_s, now_s, found)
        old = self._records.find(name)
        if old is not None and State.REGISTERED not in FOLLOWING[old.state]:
            raise RefusedError("state", f"{name} is {old.state} already; remove it first, or take "
                               "another name", {"name": name, "state": str(old.state)})
        return self._records.write(fresh)

    async def profile(self, name: str, options: Mapping[str, Any]) -> Deployment:
        """Begin to measure a deployment's model; ``settled`` waits for it. A profile that there is
        (``path`` of the options) is checked and taken over at once; raises InputError where it
        cannot serve, and nothing has changed then."""
        async with self._claimed(name):
            begun = moved(self.show(name), State.PROFILING, self._now())
            if options.get("path"):
                path = await self._dependencies.profile(begun, options, partial(self._begun, name))
                self._records.write(begun)
                return self._records.write(moved(begun, State.PROFILED, self._now(), profile=path))
            one = self._records.write(begun)
            self._begin(name, self._profiling(one, options))
            return one

    async def deploy(self, name: str, intent: DeployIntent, *,
                     dry_run: bool = False) -> tuple[Deployment, Decision]:
        """Decide, reserve memory and begin to start an engine; ``settled`` waits for it. A dry run
        decides only. Raises InputError and RefusedError; nothing has changed then."""
        async with self._claimed(name):
            one = self.show(name)
            if not dry_run and State.DEPLOYING not in FOLLOWING[one.state]:
                moved(one, State.DEPLOYING, self._now())  # which says why not
            decision = await self._decided(one, intent, reserve=not dry_run)
            if dry_run:
                return one, decision
            try:
                one = self._records.write(moved(
                    one, State.DEPLOYING, self._now(), intent=intent, placement=decision.placement,
                    configuration=decision.configuration, expected=decision.expected))
            except BaseException:
                self._records.release(name)
                raise
            self._begin(name, self._deploying(one))
            return one, decision

    async def infer(self, name: str, request: Mapping[str, Any], *, head: bool = False) -> Reply:
        """The answer to a request, after those before it: at the queue's tail, or at its head.

        Raises RefusedError where the deployment does not run, or is removed meanwhile.
        """
        one = self._running(name)

        async def ask() -> Reply:
            now = self._running(name, begun=True)  # it may have changed while the request waited
            try:
                reply = await self._engines(now).ask(now, request)
            except EngineError as error:
                raise RefusedError("engine", f"{name}: {error}") from error
            self._observations.answered(now, reply)
            return reply

        return await self._requests.run(one, ask, head=head)

    async def remove(self, name: str, *, cancel: bool = False) -> Deployment:
        """Begin to remove a deployment: what is under way ends first, or is called off with
        ``cancel``. ``settled`` waits for it. A second call may still call off."""
        while (one := self.show(name)).state != State.REMOVING:
            work = self._work.get(name)
            if work is not None and not work.done():
                if cancel or one.state == State.UNHEALTHY:  # started again, to no purpose now
                    work.cancel()
                await asyncio.wait({work})
            elif self._lock(name).locked():
                async with self._lock(name):
                    pass
            else:
                break
        if cancel:
            self._requests.call_off(name)
        if one.state != State.REMOVING:
            one = self._records.write(moved(one, State.REMOVING, self._now()))
        elif (work := self._work.get(name)) is not None and not work.done():
            return one
        self._begin(name, self._removing(one))
        return one

    async def restart(self, name: str) -> Deployment:
        """Begin to start an unhealthy deployment's engine at once."""
        async with self._claimed(name):
            one = self.show(name)
            if one.state != State.UNHEALTHY:
                raise RefusedError("state", f"{name} is {one.state}: only an unhealthy deployment "
                                   "is started again", {"name": name, "state": str(one.state)})
            self._begin(name, self._reviving(one))
            return one

    async def settled(self, name: str) -> Deployment:
        """The deployment once nothing is at work on it."""
        while (work := self._work.get(name)) is not None and not work.done():
            await asyncio.wait({work})
        return self.show(name)

    # -- care -------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take over what an earlier process left: engines that live are adopted, those that are
        gone make their deployment unhealthy, and what was half done is undone."""
        for one in self.deployments():
            if one.state in AT_WORK:
                await self._stopped(one.name)
                self._records.settle(after_crash(one, self._now()))
            elif one.state == State.RUNNING and not self._alive(one):
                self._records.write(moved(one, State.UNHEALTHY, self._now(), "its engine is gone",
                                  retry_s=self._now()))

    async def reconcile(self) -> None:
        """Look after every deployment once: is it well, and is it time to start it again?"""
        await asyncio.gather(*(self._tend(one) for one in self.deployments()
                               if one.state in (State.RUNNING, State.UNHEALTHY)))

    async def close(self) -> None:
        """Call off what is at work and all requests. Engines that run go on."""
        for one in self.deployments():
            self._requests.call_off(one.name)
        under_way = [task for task in self._work.values() if not task.done()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._records.close()

    async def _tend(self, one: Deployment) -> None:
        name = one.name
        if (work := self._work.get(name)) is not None and not work.done():
            return
        well = await self._engines(one).is_well(one)
        if self._records[name] is not one:
            return  # something happened meanwhile
        if well:
            self._missed[name] = 0
            if one.state == State.UNHEALTHY:
                self._records.write(moved(one, State.RUNNING, self._now()))
            elif one.num_failures and self._now() - one.since_s >= self._care.steady_s:
                self._records.write(replace(one, num_failures=0, retry_s=0.0))
            return
        self._missed[name] = self._missed.get(name, 0) + 1
        gone = not self._alive(one)
        if one.state == State.RUNNING and (gone or self._missed[name] >= self._care.misses):
            why = "its engine is gone" if gone else "its engine does not answer"
            one = self._records.write(moved(one, State.UNHEALTHY, self._now(), why))
            one = self._records.write(failed_again(one, self._now(), why, self._care.backoff))
        elif one.state == State.UNHEALTHY and self._now() >= one.retry_s:
            self._begin(name, self._reviving(one))

    # -- tasks ------------------------------------------------------------------------------------

    async def _profiling(self, one: Deployment, options: Mapping[str, Any]) -> None:
        try:
            path = await self._dependencies.profile(one, options, partial(self._begun, one.name))
        except (EngineError, InputError) as error:
            self._records.settle(moved(one, State.FAILED, self._now(), f"profiling: {error}"))
        except asyncio.CancelledError:
            await self._stopped(one.name)
            self._records.settle(after_crash(one, self._now()))
            raise
        else:
            self._records.settle(moved(one, State.PROFILED, self._now(), profile=path))

    async def _deploying(self, one: Deployment) -> None:
        try:
            await self._start(one)
        except BaseException as error:
            await self._stopped(one.name)
            why = "it was called off" if isinstance(error, asyncio.CancelledError) else str(error)
            self._records.settle(moved(self._records[one.name], State.FAILED, self._now(), why))
            if not isinstance(error, EngineError | InputError):
                raise
        else:
            self._records.settle(moved(self._records[one.name], State.RUNNING, self._now()))
            self._records.commit(one.name)

    async def _reviving(self, one: Deployment) -> None:
        await self._stopped(one.name)
        try:
            await self._start(one)
        except (EngineError, InputError) as error:
            await self._stopped(one.name)
            self._records.settle(failed_again(self._records[one.name], self._now(), str(error),
                                      self._care.backoff))
        except BaseException:
            await self._stopped(one.name)
            raise
        else:
            self._records.settle(moved(self._records[one.name], State.RUNNING, self._now()))

    async def _removing(self, one: Deployment) -> None:
        await self._requests.drained(one.name)
        await self._stopped(one.name)
        self._records.settle(moved(one, State.REMOVED, self._now()))

    async def _start(self, one: Deployment) -> None:
        await self._engines(one).start(one, partial(self._begun, one.name))
        self._missed[one.name] = 0

    def _begun(self, name: str, instance: Instance) -> None:
        self._records.write(replace(self._records[name], instance=instance))

    async def _stopped(self, name: str) -> None:
        """Stop a deployment's engine, or the profiler of its model, if it has one."""
        one = self._records[name]
        if one.instance is None:
            return
        if one.state == State.PROFILING:
            await process.end(one.instance.pid, one.instance.started, self._care.patience_s)
        else:
            await self._engines(one).stop(one.instance, self._care.patience_s)

    async def _decided(self, one: Deployment, intent: DeployIntent, *, reserve: bool) -> Decision:
        """The decision, with its memory reserved. It is made anew where another deploy took that
        meanwhile."""
        why = ""
        # Each try in vain means that another deploy, or a monitor, took memory meanwhile.
        for _ in range(_TRIES + len(self.deployments())):
            self._records.observe(await self._dependencies.read_used(one))
            neighbours = self._observations.beside(one, self.deployments())
            decision = await self._dependencies.choose(one, intent, self._records.devices(),
                                                       neighbours)
            refusal = self._records.reserve(one.name, decision.placement) if reserve else None
            if refusal is None:
                return decision
            why = refusal.reason
        raise RefusedError("no_room", why)

    # -- parts ------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._dependencies.clock()

    def _engines(self, one: Deployment) -> Engines:
        return self._dependencies.engines[one.engine]

    def _alive(self, one: Deployment) -> bool:
        return one.instance is not None and self._engines(one).lives(one.instance)

    def _running(self, name: str, *, begun: bool = False) -> Deployment:
        one = self.show(name)
        if one.state == State.UNHEALTHY:
            raise RefusedError("engine", f"{name} is unhealthy: {one.reason}",
                               {"name": name, "state": str(one.state)})
        # What waited when the removal began is still answered.
        if one.state != State.RUNNING and not (begun and one.state == State.REMOVING):
            raise RefusedError("state", f"{name} is {one.state}; it takes requests when it is "
                               "running", {"name": name, "state": str(one.state)})
        return one

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _claimed(self, name: str) -> asyncio.Lock:
        """The sole right to begin something with a deployment. Raises RefusedError where somebody
        else has it, or something is at work."""
        self.show(name)
        work = self._work.get(name)
        if self._lock(name).locked() or (work is not None and not work.done()):
            one = self.show(name)
            raise RefusedError("busy", f"{name} is {one.state}, and something is at work on it",
                               {"name": name, "state": str(one.state)})
        return self._lock(name)

    def _begin(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work)
        self._work[name] = task
        task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        one = self._records[name]
        if task.cancelled() and one.state in (State.PROFILING, State.DEPLOYING):
            self._records.settle(after_crash(one, self._now()))  # it was called off before it began
        if not task.cancelled() and (error := task.exception()) is not None:
            self._dependencies.on_bug(trace_of(error))
