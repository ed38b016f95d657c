"""The controller: keeps every Fleet's workloads as its file and its policy want them."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.serving.kubernetes.actions import Action, Apply, SetStatus, Tell
from penstock.serving.kubernetes.api import Cluster, ClusterError
from penstock.serving.kubernetes.controlled import Controlled
from penstock.serving.kubernetes.election import Election
from penstock.serving.kubernetes.fleet_run import FleetRun, drawn
from penstock.serving.kubernetes.interests import interests
from penstock.serving.kubernetes.keda import Asked
from penstock.serving.kubernetes.metrics import ControllerMetrics
from penstock.serving.kubernetes.names import MANAGER
from penstock.serving.kubernetes.objects import FleetObject, Pod, Ref, Thing, ref_of
from penstock.serving.kubernetes.planned import Plan, is_planned, planned_spec
from penstock.serving.kubernetes.planning import LIMITS, Planning
from penstock.serving.kubernetes.reconcile import (
    change_of,
    group_states,
    group_status,
    reconcile,
    told,
)
from penstock.serving.kubernetes.retire import Switch, retired
from penstock.serving.kubernetes.status import (
    Condition,
    fleet_status,
    group_entry,
    ready,
    retired_entry,
    scaling,
)
from penstock.serving.kubernetes.store import Store
from penstock.serving.kubernetes.work_queue import WorkQueue
from penstock.serving.planning.jobs import Jobs

PERIOD_S = 10.0
"""Time after which fleets are looked at again where nothing happens."""

AGAIN_S = 300.0
"""Time after which an unchanged object is applied again, in case somebody has changed it."""


class Controller:
    """Follows a cluster, and acts while it leads. ``records`` is the folder of the decisions'
    records, ``clock`` counts seconds."""

    def __init__(self, cluster: Cluster, election: Election, session: aiohttp.ClientSession,
                 records: Path, metrics: ControllerMetrics, note: Callable[[str], None],
                 now: Callable[[], datetime] = lambda: datetime.now(UTC),
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.election = election
        self.fleets: dict[Ref, Controlled] = {}
        self._cluster = cluster
        self._session = session
        self._records = records
        self._metrics = metrics
        self._note = note
        self._now = now
        self._clock = clock
        self._queue = WorkQueue(clock)
        self._planning = Planning(Jobs(LIMITS, note), self._queue.add)
        self.store = Store(cluster, self._changed, note)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.store.run())
                tasks.create_task(self.election.run())
                tasks.create_task(self._work())
        finally:
            await self._leave()

    def wanted(self, group: Asked) -> int | None:
        """Return the decided number of a group, None where there is none. A controller that does
        not lead has the leader's number, from the Fleet's status."""
        ref = Ref("Fleet", group.namespace, group.fleet)
        one = self.fleets.get(ref)
        if one is not None and one.run is not None:
            numbers = {state.options.key(state.number): state.number for state in one.states}
            return one.run.targets().get(numbers.get(group.group, -1))
        fleet = self.store.fleet(ref)
        entries = () if fleet is None else fleet.status.get("groups") or ()
        return next((entry.get("target") for entry in entries
                     if group.group in (entry.get("name"), str(entry["number"]))), None)

    def _changed(self, thing: Thing) -> None:
        """Ask for a look at the Fleets that an object concerns."""
        if isinstance(thing, FleetObject):
            self._queue.add(thing.ref)
            return
        namespace = thing.namespace if isinstance(thing, Pod) else thing.ref.namespace
        for ref, one in self.fleets.items():
            if ref.namespace == namespace and one.interests is not None \
                    and one.interests.include(thing):
                self._queue.add(ref)

    async def _work(self) -> None:
        """Lead whenever the Lease is ours. Where it is lost, what is under way is broken off."""
        while True:
            await self.election.leads.wait()
            work = asyncio.create_task(self._lead())
            lost = asyncio.create_task(self.election.lost.wait())
            try:
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
            finally:
                for task in (work, lost):
                    task.cancel()
                await asyncio.gather(work, lost, return_exceptions=True)
                await self._leave()

    async def _lead(self) -> None:
        await self.store.whole.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run(self._look))
            while True:
                for ref in (*self.fleets, *(fleet.ref for fleet in self.store.fleets())):
                    self._queue.add(ref)
                await asyncio.sleep(PERIOD_S)

    async def _leave(self) -> None:
        """Decide nothing more: another controller may lead now."""
        for one in self.fleets.values():
            if one.run is not None:
                await one.run.close()
        self.fleets.clear()
        await self._planning.close()

    async def _look(self, ref: Ref) -> None:
        """Look at a Fleet. What goes wrong with it is no other Fleet's trouble."""
        fleet = self.store.fleet(ref)
        if fleet is None:
            self._queue.forget(ref)
            self._planning.forget(ref)
            one = self.fleets.pop(ref, None)
            if one is not None and one.run is not None:
                await one.run.close()
            return
        with self._metrics.reconciling():
            try:
                await self._look_at(ref, fleet)
                self._metrics.reconciled("ok")
                self._queue.forget(ref)
            except ClusterError as error:
                self._metrics.reconciled("error")
                self._queue.failed(ref, error.retry_after_s)
                self._note(f"{ref.namespace}/{ref.name}: {error}")
                await self._say_refused(ref, error)
            except Exception as error:
                self._metrics.reconciled("error")
                self._queue.failed(ref)
                self._note(f"{ref.namespace}/{ref.name}: {type(error).__name__}: {error}")

    async def _look_at(self, ref: Ref, fleet: FleetObject) -> None:
        one = self.fleets.setdefault(ref, Controlled(fleet))
        one.fleet = fleet
        if fleet.is_ending:
            return
        await self._open(one)
        if one.run is None:
            await self._say(one, one.first())
            return
        run = one.run
        seen = self.store.observed(ref.namespace, run.work())
        one.states = group_states(fleet, run.values, seen, self._taken(ref))
        one.gone = retired(fleet, run.values, one.states, seen.index)
        one.interests = interests(ref, run.values, one.states, one.gone)
        run.follow(one.states, switching=any(former.serves for former in one.gone))
        run.start()
        targets = run.targets()
        switch = Switch(run.values, one.states, one.gone, targets)
        allowed = switch.allowed()
        actions = [*reconcile(fleet, run.values, one.states, seen, allowed),
                   *switch.steps(seen.index, seen.work)]
        for state in one.states:
            actions += group_status(state, seen.index.groups.get(state.ref),
                                    targets.get(state.number))
        await self._act(one, actions)
        missing = None if run.loop is None else run.loop.problem
        await self._say(one, [
            *one.first(), ready(one.states, targets, allowed),
            scaling(run.values, missing,
                    decided=run.loop is not None and run.loop.num_decisions > 0)])

    def _taken(self, ref: Ref) -> dict[Ref, str]:
        """Return the workloads of the other Fleets."""
        return {state.workload.ref: f"the Fleet {other.name}"
                for other, one in self.fleets.items() if other != ref
                for state in one.states if state.workload is not None}

    async def _open(self, one: Controlled) -> None:
        """Open the run of a Fleet that is new, or whose file has changed."""
        if one.run is None and one.problem is not None and self._said(one.fleet):
            return
        try:
            await self._open_run(one)
        except InputError as error:
            # The replicas stay as they are, and so does the run of the file before.
            one.problem = str(error)
            if one.run is not None:
                await one.run.close()
            one.run = None

    async def _open_run(self, one: Controlled) -> None:
        """Open the run of a Fleet. Where its plan is missing, the run of the plan before goes on.
        Raises InputError."""
        fleet, one.planned = one.fleet, None
        if is_planned(fleet.spec):
            values = await self._drawn(one)
            one.planned = self._planning.plan(fleet, values)
            if not isinstance(one.planned, Plan):
                one.problem = None
                return
            fleet = replace(fleet, spec=planned_spec(fleet.spec, values, one.planned.groups))
        with_sets = self.store.has_sets
        if one.run is None or (one.run.spec, one.run.with_sets) != (fleet.spec, with_sets):
            run = await asyncio.to_thread(
                FleetRun, fleet, self._session, self._records,
                partial(self._queue.add, fleet.ref), self._note, with_sets=with_sets)
            if one.run is not None:
                await one.run.close()
            one.run, one.applied = run, {}
        one.plan, one.problem = one.planned, None

    async def _drawn(self, one: Controlled) -> Fleet:
        """Return the values of a Fleet without groups. A file is read once."""
        if one.drawn is None or one.drawn[0] != one.fleet.spec:
            one.drawn = (one.fleet.spec, await asyncio.to_thread(drawn, one.fleet))
        return one.drawn[1]

    @staticmethod
    def _said(fleet: FleetObject) -> bool:
        """Whether the status is of the present file."""
        return fleet.status.get("observedGeneration") == fleet.generation

    async def _act(self, one: Controlled, actions: list[Action]) -> None:
        now_s = self._clock()
        decided = [] if one.run is None else one.run.decisions()
        source = "file" if one.plan is None else "plan"
        reason = str(decided[-1]["reason"]) if decided else f"the number of the {source}"
        for action in actions:
            change = change_of(action)
            if isinstance(action, Apply) and action.manager == MANAGER:
                ref = ref_of(action.document)
                known = one.applied.get(ref)
                if known is not None and known[0] == action.document and \
                        now_s - known[1] < AGAIN_S:
                    continue
                await self._do(action)
                one.applied[ref] = (action.document, now_s)
            else:
                await self._do(action)
            self._queue.got_on(one.fleet.ref)
            if change is not None:
                ref, before, after = change
                if before == 0:
                    one.applied.pop(ref, None)  # a new workload has nothing of what was applied
                self._metrics.scaled(up=after > before)
                for event in told(one.fleet, [action], reason):
                    await self._tell(event)

    async def _do(self, action: Action) -> None:
        """Act, as long as the Lease is ours."""
        if not self.election.may_act:
            raise ClusterError("the Lease is lost")
        await self._cluster.act(action)

    async def _tell(self, event: Tell) -> None:
        """Record an Event. Nothing else waits for one that is refused."""
        try:
            await self._do(event)
        except ClusterError as error:
            self._note(f"{event.ref.namespace}/{event.ref.name}: an Event: {error}")

    async def _say_refused(self, ref: Ref, error: ClusterError) -> None:
        """Write into the status that the API server has refused a step."""
        one = self.fleets.get(ref)
        if one is None or one.run is None or error.status in (0, 404, 409, 429):
            return  # the server is gone or busy, or the next look has newer objects
        with suppress(ClusterError):
            await self._say(one, [*one.first(),
                                  Condition("Ready", "False", "Refused", str(error))])

    async def _say(self, one: Controlled, found: list[Condition]) -> None:
        """Write the status where it has changed, and an Event for a new problem."""
        run, fleet = one.run, one.fleet
        values = None if run is None else run.values
        targets = {} if run is None else run.targets()
        groups = [] if values is None else [
            group_entry(values, state, targets.get(state.number)) for state in one.states]
        status = fleet_status(fleet, values, found, groups, [] if run is None else run.decisions(),
                              None if run is None else run.attainment(), self._now(), one.plan,
                              [] if values is None else [retired_entry(values, former)
                                                         for former in one.gone])
        if any(fleet.status.get(key) != value for key, value in status.items()):
            await self._do(SetStatus(fleet.ref, status))
        wrong = next(((condition.reason, condition.message) for condition in found
                      if condition.status == "False" and condition.reason not in
                      ("FixedReplicas", "ReplicasStarting")), None)
        # One Event for each kind of problem and file: names in a message may change all the time.
        warned = None if wrong is None else (wrong[0], fleet.generation)
        if wrong is not None and warned != one.warned:
            await self._tell(Tell(fleet.ref, fleet.uid, "Warning", *wrong))
        one.warned = warned
