"""Runs a case through the drivers and keeps everything observable."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any

import orjson

from penstock.core.decision import Accept, Reject
from penstock.core.intake import DIRECT, Intake
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import to_ps
from penstock.journal.journal import Journal, read_plan
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.route.simple import RoundRobin
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.build import build_kv
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import Ended, ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.upcoming import InOrder
from support.reference_driver import Trace, run_reference
from support.strategies import Case


def make_kv(case: Case) -> KvAllocator:
    return build_kv(case.options, case.total_blocks, case.block_tokens, case.prefix_caching)


def make_scheduler(case: Case, adapters: AdapterStore | None = None) -> ReplicaScheduler:
    return build_scheduler(case.options, case.step_time, make_kv(case),
                           max_in_flight=case.max_in_flight, adapters=adapters)


def step_by_step(case: Case, scheduler: ReplicaScheduler | None = None,
                 on_step: Callable[[StepPlan], None] | None = None) -> Trace:
    """The reference driver's trace."""
    return run_reference(scheduler or make_scheduler(case), StepClock(case.step_time),
                         case.requests, case.output_tokens, case.max_in_flight, case.aborts,
                         on_step)


class Journaled:
    """A scheduler whose calls are journaled, for drivers that keep no journal themselves."""

    def __init__(self, case: Case, scheduler: ReplicaScheduler | None = None) -> None:
        self.stream = BytesIO()
        self._scheduler = scheduler or make_scheduler(case)
        self._journal = Journal(self.stream, header(case))

    @property
    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.stream.getvalue().splitlines()]

    def add(self, request: Request, now_s: float) -> Accept | Reject:
        self._journal.add(request, now_s)
        return self._scheduler.add(request, now_s)

    def abort(self, request_id: int, now_s: float) -> bool:
        self._journal.abort(request_id, now_s)
        return self._scheduler.abort(request_id, now_s)

    def plan(self, now_s: float) -> StepPlan | None:
        plan = self._scheduler.plan(now_s)
        if plan is not None:
            self._journal.plan(plan, now_s)
        return plan

    def commit(self, plan: StepPlan, result: StepResult, now_s: float) -> None:
        self._journal.commit(plan, result, now_s)
        self._scheduler.commit(plan, result, now_s)


def header(case: Case) -> dict[str, Any]:
    """What a journal of this case must say for a replay."""
    return {"schedule": asdict(case.options), "kv_tokens": case.total_blocks * case.block_tokens,
            "block_tokens": case.block_tokens, "prefix_caching": case.prefix_caching,
            "max_in_flight": case.max_in_flight}


@dataclass(slots=True)
class Watched:
    """The end of every token of a journaled run, told from its plans and commits.

    Read from the journal rather than from a recorder of our own, because Python cannot derive from
    a natively compiled class.
    """

    token_ps: dict[int, list[int]] = field(default_factory=dict)
    first_scheduled_ps: dict[int, int] = field(default_factory=dict)
    preempted: list[tuple[int, int]] = field(default_factory=list)
    largest_jump: int = 0

    def run(self, plan: StepPlan, num_steps: int, start_ps: int, end_ps: int,
            clock: StepClock) -> None:
        """``num_steps`` copies of a plan ran back to back."""
        duration_ps = clock.duration_ps(plan)
        growth_ps = clock.growth_ps(plan) if num_steps > 1 else 0
        ends = [start_ps + k * duration_ps + k * (k - 1) // 2 * growth_ps
                for k in range(1, num_steps + 1)]
        assert ends[-1] == end_ps
        for request_id in plan.decode_ids:
            self.token_ps.setdefault(request_id, []).extend(ends)
        for chunk in plan.chunks:
            if chunk.last:
                assert num_steps == 1
                self.token_ps.setdefault(chunk.request_id, []).append(end_ps)
        for request_id in plan.tokens_by_request:
            self.first_scheduled_ps.setdefault(request_id, start_ps)
        self.largest_jump = max(self.largest_jump, num_steps)


def watch(records: list[dict[str, Any]], clock: StepClock) -> Watched:
    """What a journal of one plan at a time says of tokens."""
    watched = Watched()
    for record in records:
        if record["kind"] == "plan":
            plan, start_ps = read_plan(record["plan"]), to_ps(record["now_s"])
            watched.preempted += [(start_ps, request_id) for request_id in plan.preempted]
        elif record["kind"] == "commit" and plan.num_tokens:
            watched.run(plan, record["num_steps"], start_ps, to_ps(record["now_s"]), clock)
    return watched


@dataclass(slots=True)
class Jumps:
    """What the jumping driver leaves."""

    recorder: Watched
    scheduler: ReplicaScheduler
    ended: Ended
    shed: dict[int, str]
    refused: dict[int, str] = field(default_factory=dict)
    journal: bytes = b""

    @property
    def records(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.journal.splitlines()]


def driven(case: Case, journal: Journal | None = None, intake: Intake = DIRECT,
           adapters: AdapterStore | None = None) -> tuple[SimReplica, dict[int, str]]:
    """The simulator's own driver on one replica: the replica after its run, and the reasons of
    refused requests."""
    refused: dict[int, str] = {}
    replica = SimReplica(0, make_scheduler(case, adapters), StepClock(case.step_time),
                         Oracle(case.output_tokens), ReplicaRecorder(to_ps(1.0)), journal, intake,
                         adapters=adapters)

    def refuse(request: Request, reason: str) -> None:
        refused[request.request_id] = reason

    spec = ReplicaSpec("m", adapters=frozenset([one.adapter for one in case.requests]))
    Cluster([replica], Dispatcher(RoundRobin(), [replica], [spec], refuse),
            refuse).run(InOrder(case.requests))
    return replica, refused


def jump(case: Case, intake: Intake = DIRECT) -> Jumps:
    """The run of ``driven``, with its journal."""
    stream = BytesIO()
    replica, refused = driven(case, Journal(stream, header(case)), intake)
    shed = {request.request_id: reason for request, reason, _ in replica.shed}
    journal = stream.getvalue()
    records = [orjson.loads(line) for line in journal.splitlines()]
    return Jumps(watch(records, StepClock(case.step_time)), replica.scheduler,
                 replica.recorder.flush(), shed, refused, journal)
