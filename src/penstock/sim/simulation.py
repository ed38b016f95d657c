"""Simulates a fleet on a workload."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from penstock.core.errors import InputError
from penstock.core.request import AUTO
from penstock.core.units import PS_PER_S, to_ps
from penstock.fleet.replica_factory import (
    belief_factor,
    believed_step_time,
    dispatch_of,
    journal_header,
    kv_cache,
    random_stream,
    relative_speeds,
    step_noise,
    step_time,
    true_step_time,
)
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.journal.journal import Journal
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.clock import StepClock
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.predict.length import HistoryLengths, LengthPredictor, ScaledLengths
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.columns import Outcomes
from penstock.sim.cycles import no_cycle_search
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.kernel import NEVER_PS
from penstock.sim.multiplex.pools import PoolRun, SimulatedPool, simulated_pools
from penstock.sim.multiplex.routing import PoolDoor
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.step_log import StepLog
from penstock.sim.upcoming import InOrder, Looped
from penstock.workload.requests import requests as requests_of
from penstock.workload.workload import Workload

_FLUSH_REQUESTS = 50_000
_LOOKS = 10
"""How often at most ``lost`` is asked."""
_NUM_SAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Beliefs:
    """Errors of the policies' beliefs, for experiments on robustness: factors on predicted step
    times and output lengths. True values do not change."""

    step_time_factor: float = 1.0
    length_factor: float = 1.0

    def lengths(self) -> LengthPredictor:
        """Return what a scheduler believes about outputs before it has seen any."""
        learnt = HistoryLengths()
        return learnt if self.length_factor == 1.0 else ScaledLengths(learnt, self.length_factor)


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """Result of a simulation: every request, the busy time of replicas, the results of pools, and
    the reasons of rejections.

    Devices of pools are numbered after the replicas. ``series``, ``busy_s`` and ``num_steps`` are
    of the replicas. ``steps`` has the columns of ``StepLog`` for each replica, where asked for.
    ``num_unsent`` requests of closed loops or sessions were not sent before the end.
    """

    table: RequestTable
    series: RunSeries
    busy_s: FloatColumn
    num_steps: int
    end_s: float
    reasons: Mapping[str, int]
    prefix_hit_rate: float | None = None
    pools: tuple[PoolRun, ...] = ()
    steps: tuple[FloatColumn, ...] = ()
    num_unsent: int = 0


@dataclass(frozen=True, slots=True)
class _Parts:
    """A cluster ready to run, with the parts that are read afterwards."""

    cluster: Cluster
    dispatcher: Dispatcher
    replicas: list[SimReplica]
    kvs: list[KvAllocator]
    outcomes: Outcomes
    pools: list[SimulatedPool]


def simulate(fleet: Fleet, workload: Workload, *, beliefs: Beliefs = Beliefs(),
             journal_dir: Path | None = None, seed: int = 0, log_steps: bool = False,
             on_progress: Callable[[int], None] | None = None,
             lost: Callable[[RequestTable], bool] | None = None) -> SimulationResult:
    """Run ``workload`` on the replicas and the pools of ``fleet``, in one order of time.

    ``journal_dir`` gets one journal per replica. ``log_steps`` keeps every step. ``on_progress`` is
    called occasionally with the number of ended requests. ``lost`` gets the table so far, now and
    then, and ends the run where it returns true; it is for fleets without pools. Raises InputError
    for requests of a model that neither a pool nor a replica has.
    """
    _check_models(fleet, workload)
    with ExitStack() as stack:
        parts = _assemble(fleet, workload, beliefs, journal_dir, seed, stack)
        if log_steps:
            for replica in parts.replicas:
                replica.recorder.steps = StepLog()
        watch = _Flusher(parts, on_progress, lost, len(workload))
        drain_s = fleet.run.drain_s
        until_ps = NEVER_PS
        if drain_s is not None:
            until_ps = min(NEVER_PS, to_ps(workload.duration_s + drain_s))
        classes = {c.name: c for c in fleet.service_classes}
        with no_cycle_search():
            requests = requests_of(workload, classes, fleet.gateway.confidential_tenants,
                                   fleet.gateway.prefix_domain)
            loops = workload.loops
            upcoming = InOrder(requests) if loops is None else Looped(requests, loops)
            with suppress(_Lost):
                parts.cluster.run(upcoming, watch.on_instant, until_ps)
        watch.flush()
    replicas = parts.replicas
    for replica in replicas:
        parts.outcomes.shed(replica.replica_id, replica.shed)
    pools = tuple(pool.settle(parts.outcomes) for pool in parts.pools)
    table = parts.outcomes.table(upcoming.arrived_s if isinstance(upcoming, Looped) else None)
    return SimulationResult(
        table, RunSeries([_series(replica) for replica in replicas]),
        np.array([replica.recorder.busy_ps / PS_PER_S for replica in replicas]),
        sum(replica.recorder.num_steps for replica in replicas),
        _end_s(parts, pools, workload), parts.outcomes.reasons, _hit_rate(parts.kvs), pools,
        tuple(replica.recorder.steps.columns() for replica in replicas
              if replica.recorder.steps is not None),
        len(workload) - len(upcoming.arrived_s) if isinstance(upcoming, Looped) else 0)


def _check_models(fleet: Fleet, workload: Workload) -> None:
    """Raises InputError for requests of a model that neither a pool nor a replica has."""
    if not fleet.multiplexing:
        return
    known = {AUTO, *(group.model.name for group in fleet.replicas),
             *(model.spec.name for pool in fleet.multiplexing for model in pool.models)}
    for index in np.unique(workload.model_index).tolist():
        if workload.models[index] not in known:
            raise InputError(f"traffic: {workload.models[index]} is on no device of multiplexing"
                             + (" and has no replicas" if fleet.replicas else ""))


def _end_s(parts: _Parts, pools: Sequence[PoolRun], workload: Workload) -> float:
    """Return when the last request arrived or ended, or the last load ended. Timers of pools may be
    later."""
    if not pools:
        return parts.cluster.now_ps / PS_PER_S
    ends = [workload.duration_s]
    ends += [replica.recorder.last_end_ps / PS_PER_S for replica in parts.replicas]
    for one in pools:
        ends += [load.begin_s + load.seconds for load in one.run.loads]
        ends += one.run.end_s[one.run.served].tolist()
    return max(ends)


def build_cluster(fleet: Fleet, workload: Workload) -> Cluster:
    """Build the event loop alone, for benchmarks: without collection and output."""
    with ExitStack() as stack:
        return _assemble(fleet, workload, Beliefs(), None, 0, stack).cluster


def _assemble(fleet: Fleet, workload: Workload, beliefs: Beliefs, journal_dir: Path | None,
              seed: int, stack: ExitStack) -> _Parts:
    outcomes = Outcomes(workload, [fleet.service_class(name).slo
                                   for name in workload.service_classes])
    outputs = _outputs(fleet, workload)
    # How long a closed loop lasts is not known before.
    period_s = workload.duration_s / _NUM_SAMPLES if workload.loops is None else 1.0
    period_ps = max(1, to_ps(period_s))
    replicas: list[SimReplica] = []
    kvs: list[KvAllocator] = []
    for group in fleet.replicas:
        model, num_tokens = step_time(group), kv_tokens(fleet, group)
        factor = beliefs.step_time_factor * belief_factor(fleet, group, seed)
        for _ in range(group.count):
            journal = _journal(fleet, group, journal_dir, len(replicas), factor, stack)
            kv = kv_cache(fleet, group, num_tokens)
            scheduler = build_scheduler(fleet.schedule_of(group), biased(model, factor), kv,
                                        beliefs.lengths())
            replicas.append(_replica(fleet, group, len(replicas), model, scheduler,
                                     outputs[group.model.name], period_ps, journal, seed))
            kvs.append(kv)
    rng = random_stream(seed, "routing", 0)
    believed = partial(believed_step_time, fleet=fleet, seed=seed)
    router = dispatch_of(fleet, lambda n: int(rng.integers(n)), believed=believed)
    specs = _replica_specs(fleet, relative_speeds(fleet, believed))
    dispatcher = Dispatcher(router, replicas, specs, outcomes.refuse)
    pools = simulated_pools(fleet, workload, seed, len(replicas))
    cluster = Cluster(replicas, dispatcher, outcomes.refuse, [pool.source for pool in pools],
                      PoolDoor(pools, dispatcher) if pools else None)
    return _Parts(cluster, dispatcher, replicas, kvs, outcomes, pools)


def _outputs(fleet: Fleet, workload: Workload) -> dict[str, list[int]]:
    """Return the true output tokens of all requests, by model."""
    models = {group.model.name for group in fleet.replicas}
    if workload.answers is None:
        return dict.fromkeys(models, workload.output_tokens.tolist())
    return {model: workload.answers.tokens_of(model).tolist() for model in models}


class _Lost(Exception):  # noqa: N818 - no error: it ends a run that needs no more steps
    """The caller knows enough."""


class _Flusher:
    """Moves ended requests from the recorders to the columns, to limit memory and to show them."""

    def __init__(self, parts: _Parts, on_progress: Callable[[int], None] | None,
                 lost: Callable[[RequestTable], bool] | None, num_requests: int) -> None:
        self._dispatcher = parts.dispatcher
        self._replicas = parts.replicas
        self._outcomes = parts.outcomes
        self._pools = parts.pools
        self._on_progress = on_progress
        self._lost = lost
        self._look_requests = max(1, num_requests // _LOOKS)
        self._instants = 0

    def on_instant(self, now_ps: int) -> None:
        self._instants += 1
        if self._lost is not None and not self._instants & 0x3F:
            self._look(self._lost)
        if self._instants & 0xFFF:
            return
        for replica in self._replicas:
            if replica.recorder.num_ended >= _FLUSH_REQUESTS:
                self._store(replica)
        if self._on_progress is not None:
            pending = sum(replica.recorder.num_ended for replica in self._replicas)
            pending += sum(pool.record.num_ended for pool in self._pools)
            self._on_progress(self._outcomes.num_stored + pending)

    def _look(self, lost: Callable[[RequestTable], bool]) -> None:
        if sum(replica.recorder.num_ended for replica in self._replicas) >= self._look_requests:
            self.flush()
            if lost(self._outcomes.table()):
                raise _Lost

    def flush(self) -> None:
        for replica in self._replicas:
            self._store(replica)

    def _store(self, replica: SimReplica) -> None:
        unfinished = replica.recorder.unfinished
        self._outcomes.store(replica.replica_id, replica.recorder.flush(), unfinished)
        self._dispatcher.flushed(replica.replica_id)


def _replica(fleet: Fleet, group: ReplicaGroup, replica_id: int, model: StepTimeModel,
             scheduler: AdaptableScheduler, outputs: list[int], period_ps: int,
             journal: Journal | None, seed: int) -> SimReplica:
    truth = true_step_time(fleet, model, random_stream(seed, "truth", replica_id))
    clock = StepClock(truth, step_noise(fleet, random_stream(seed, "step-time", replica_id)))
    return SimReplica(replica_id, scheduler, clock, Oracle(outputs),
                      ReplicaRecorder(period_ps, to_ps(fleet.run.warmup_s)), journal, group.intake)


def _replica_specs(fleet: Fleet, relative_speed: list[float]) -> list[ReplicaSpec]:
    speeds = iter(relative_speed)
    return [ReplicaSpec(group.model.name,
                 None if group.service_classes is None else frozenset(group.service_classes),
                 next(speeds), group.confidentiality)
            for group in fleet.replicas for _ in range(group.count)]


def _journal(fleet: Fleet, group: ReplicaGroup, folder: Path | None, replica_id: int,
             belief: float, stack: ExitStack) -> Journal | None:
    if folder is None:
        return None
    stream = stack.enter_context((folder / f"journal-{replica_id}.jsonl").open("wb"))
    return Journal(stream, journal_header(fleet, group, replica_id, belief))


def _hit_rate(kvs: list[KvAllocator]) -> float | None:
    rates = [kv.hit_rate for kv in kvs if isinstance(kv, SharedKv)]
    return float(np.mean(rates)) if rates else None


def _series(replica: SimReplica) -> ReplicaSeries:
    columns = replica.recorder.samples.columns()
    return ReplicaSeries(
        replica.replica_id, columns[:, 0] / PS_PER_S, columns[:, 1] / PS_PER_S, columns[:, 2],
        columns[:, 3], columns[:, 4], columns[:, 5], replica.scheduler.kv_total_tokens,
        replica.recorder.samples.every_step)
