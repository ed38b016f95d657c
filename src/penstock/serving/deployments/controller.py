"""The verbs of deployments, and the supervision of those that run.

Every verb checks the state and changes it on disk and in memory in one uninterrupted step. Slow
work goes to a task. So two deploys cannot reserve the same memory, and ``recover`` finds on disk
whatever a crash interrupted.
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
from penstock.serving.deployments.dependencies import USUAL, Dependencies, RestartPolicy
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
    """The deployments of a cluster. One event loop owns the controller. Call ``recover`` first and
    ``close`` at the end; engines keep running after ``close``."""

    def __init__(self, cluster: Cluster, store: Store, dependencies: Dependencies,
                 queue: ExclusiveDeviceQueue | None = None,
                 restart_policy: RestartPolicy = USUAL) -> None:
        self._cluster = cluster
        self._dependencies = dependencies
        self._restart_policy = restart_policy
        self._records = DeploymentRecords(cluster, store)
        self._requests = RequestQueue(queue or make_queue("penstock"), dependencies.clock)
        self._observations = Observations()
        self._locks: dict[str, asyncio.Lock] = {}
        self._work: dict[str, asyncio.Task[None]] = {}
        self._missed: dict[str, int] = {}

    # -- reading ----------------------------------------------------------------------------------

    def deployments(self) -> list[Deployment]:
        """All deployments by name, removed ones included."""
        return self._records.deployments()

    def show(self, name: str) -> Deployment:
        """Return a deployment. Raises InputError for an unregistered name."""
        return self._records[name]

    def events(self, name: str) -> list[Event]:
        """Return a deployment's changes of state, the oldest first."""
        return self._records.events(name)

    def load(self, name: str) -> tuple[int, int]:
        """Return how many requests of a deployment wait, and how many run."""
        return self._requests.of(name)

    def seen(self, name: str) -> Observation | None:
        """Return the observed latency of a deployment's answers, None where none was measured."""
        return self._observations.of(self.show(name))

    def devices(self) -> list[Device]:
        """Return the accelerators, with the memory that deployments hold on them."""
        return self._records.devices()

    def check_integrity(self) -> None:
        """Raises AssertionError where reserved memory and the deployments that hold memory
        differ."""
        self._records.check_integrity()

    # -- verbs ------------------------------------------------------------------------------------

    def register(self, name: str, model: str, engine: str,
                 options: Mapping[str, Any]) -> Deployment:
        """Register a deployment, or register a removed name again. Raises InputError,
        RefusedError."""
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
        """Begin to measure a deployment's model; ``settled`` waits for the end. An existing profile
        (``path`` in the options) is checked and adopted at once. Raises InputError for an unusable
        profile; the deployment is then unchanged."""
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
        """Decide, reserve memory and begin to start an engine; ``settled`` waits for the end. A dry
        run only decides. Raises InputError and RefusedError; the deployment is then unchanged."""
        async with self._claimed(name):
            one = self.show(name)
            if not dry_run and State.DEPLOYING not in FOLLOWING[one.state]:
                moved(one, State.DEPLOYING, self._now())  # raises the reason why not
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
        """Return the answer to a request, which waits at the tail or the head of the queue.

        Raises RefusedError where the deployment does not run, or is removed while the request
        waits.
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
        """Begin to remove a deployment. Requests in progress end first, or are cancelled with
        ``cancel``. ``settled`` waits for the end. A second call with ``cancel`` still cancels
        them."""
        while (one := self.show(name)).state != State.REMOVING:
            work = self._work.get(name)
            if work is not None and not work.done():
                if cancel or one.state == State.UNHEALTHY:  # its restart is pointless now
                    work.cancel()
                await asyncio.wait({work})
            elif self._lock(name).locked():
                async with self._lock(name):
                    pass
            else:
                break
        if cancel:
            self._requests.cancel_all(name)
        if one.state != State.REMOVING:
            one = self._records.write(moved(one, State.REMOVING, self._now()))
        elif (work := self._work.get(name)) is not None and not work.done():
            return one
        self._begin(name, self._removing(one))
        return one

    async def restart(self, name: str) -> Deployment:
        """Restart an unhealthy deployment's engine now, without waiting for the backoff."""
        async with self._claimed(name):
            one = self.show(name)
            if one.state != State.UNHEALTHY:
                raise RefusedError("state", f"{name} is {one.state}: only an unhealthy deployment "
                                   "is started again", {"name": name, "state": str(one.state)})
            self._begin(name, self._reviving(one))
            return one

    async def settled(self, name: str) -> Deployment:
        """Wait until no operation on a deployment is in progress, and return it."""
        while (work := self._work.get(name)) is not None and not work.done():
            await asyncio.wait({work})
        return self.show(name)

    # -- supervision ------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take over the state of an earlier process. Live engines are adopted, deployments whose
        engine is gone become unhealthy, and half-done operations are undone."""
        for one in self.deployments():
            if one.state in AT_WORK:
                await self._stopped(one.name)
                self._records.settle(after_crash(one, self._now()))
            elif one.state == State.RUNNING and not self._alive(one):
                self._records.write(moved(one, State.UNHEALTHY, self._now(), "its engine is gone",
                                  retry_s=self._now()))

    async def reconcile(self) -> None:
        """Check the health of every deployment once, and restart those whose restart is due."""
        await asyncio.gather(*(self._tend(one) for one in self.deployments()
                               if one.state in (State.RUNNING, State.UNHEALTHY)))

    async def close(self) -> None:
        """Cancel operations in progress and all requests. Running engines keep running."""
        for one in self.deployments():
            self._requests.cancel_all(one.name)
        under_way = [task for task in self._work.values() if not task.done()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._records.close()

    async def _tend(self, one: Deployment) -> None:
        name = one.name
        if (work := self._work.get(name)) is not None and not work.done():
            return
        well = await self._engines(one).is_healthy(one)
        if self._records[name] is not one:
            return  # the deployment changed in the meantime
        if well:
            self._missed[name] = 0
            if one.state == State.UNHEALTHY:
                self._records.write(moved(one, State.RUNNING, self._now()))
            elif one.num_failures and self._now() - one.since_s >= self._restart_policy.steady_s:
                self._records.write(replace(one, num_failures=0, retry_s=0.0))
            return
        self._missed[name] = self._missed.get(name, 0) + 1
        gone = not self._alive(one)
        lost = gone or self._missed[name] >= self._restart_policy.failure_threshold
        if one.state == State.RUNNING and lost:
            why = "its engine is gone" if gone else "its engine does not answer"
            one = self._records.write(moved(one, State.UNHEALTHY, self._now(), why))
            one = self._records.write(failed_again(one, self._now(), why,
                                                   self._restart_policy.backoff))
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
            why = "it was cancelled" if isinstance(error, asyncio.CancelledError) else str(error)
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
                                      self._restart_policy.backoff))
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
        """Stop a deployment's engine or its profiler, if it has one."""
        one = self._records[name]
        if one.instance is None:
            return
        if one.state == State.PROFILING:
            await process.end(one.instance.pid, one.instance.started, self._restart_policy.grace_s)
        else:
            await self._engines(one).stop(one.instance, self._restart_policy.grace_s)

    async def _decided(self, one: Deployment, intent: DeployIntent, *, reserve: bool) -> Decision:
        """Return the decision with its memory reserved. The decision is repeated where another
        deploy took the memory in the meantime."""
        why = ""
        # Each failed try means that memory was taken by another deploy or by another process.
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
        return one.instance is not None and self._engines(one).is_alive(one.instance)

    def _running(self, name: str, *, begun: bool = False) -> Deployment:
        one = self.show(name)
        if one.state == State.UNHEALTHY:
            raise RefusedError("engine", f"{name} is unhealthy: {one.reason}",
                               {"name": name, "state": str(one.state)})
        # Requests that waited when the removal began are still answered.
        if one.state != State.RUNNING and not (begun and one.state == State.REMOVING):
            raise RefusedError("state", f"{name} is {one.state}; it takes requests when it is "
                               "running", {"name": name, "state": str(one.state)})
        return one

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _claimed(self, name: str) -> asyncio.Lock:
        """Return the lock for operations on a deployment. Raises RefusedError where it is taken, or
        an operation is in progress."""
        self.show(name)
        work = self._work.get(name)
        if self._lock(name).locked() or (work is not None and not work.done()):
            one = self.show(name)
            raise RefusedError("busy",
                               f"{name} is {one.state}, and another operation is in progress",
                               {"name": name, "state": str(one.state)})
        return self._lock(name)

    def _begin(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work)
        self._work[name] = task
        task.add_done_callback(partial(self._ended, name))

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        one = self._records[name]
        if task.cancelled() and one.state in (State.PROFILING, State.DEPLOYING):
            self._records.settle(after_crash(one, self._now()))  # cancelled before it began
        if not task.cancelled() and (error := task.exception()) is not None:
            self._dependencies.on_bug(trace_of(error))
