"""Simulates a fleet on a workload."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from penstock.core.errors import InputError
from penstock.core.request import AUTO, Request
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
    tier_specs,
    true_step_time,
)
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.scaler import fleet_deferral, patience_of
from penstock.fleet.scaling import slotted
from penstock.fleet.values import Fleet
from penstock.journal.journal import Journal
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv
from penstock.policy.kv.tiers import KvTiers, TierStore
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.schedule.adaptable import AdaptableScheduler
from penstock.predict.length import HistoryLengths, LengthPredictor, ScaledLengths
from penstock.registry.make import build_scheduler
from penstock.sim.cluster import Cluster
from penstock.sim.columns import OnOver, Outcomes
from penstock.sim.cycles import no_cycle_search
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.flusher import Flusher, Lost
from penstock.sim.kernel import NEVER_PS
from penstock.sim.multiplex.pools import PoolRun, SimulatedPool, simulated_pools
from penstock.sim.multiplex.routing import PoolDoor
from penstock.sim.oracle import Oracle, TrueLengths
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.replica import SimReplica
from penstock.sim.reuse import PrefixReuse, ReuseMeter
from penstock.sim.scaling.build import ScalingRun, scaling_loop, scaling_run
from penstock.sim.scaling.holding import Holding
from penstock.sim.scaling.loop import ScalingLoop
from penstock.sim.scaling.slots import Slot
from penstock.sim.step_log import StepLog
from penstock.sim.timeline import BusyBins
from penstock.sim.upcoming import InOrder, Looped
from penstock.workload.requests import requests as requests_of
from penstock.workload.workload import Traffic, Workload

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
    ``num_unsent`` requests of closed loops or sessions were not sent before the end. Where replicas
    are scaled, ``busy_s`` has one for each slot. ``busy_bins`` has the group and the computing time
    over time of each replica whose energy is told.
    """

    table: RequestTable
    series: RunSeries
    busy_s: FloatColumn
    num_steps: int
    end_s: float
    reasons: Mapping[str, int]
    prefix_hit_rate: float | None = None
    prefix_reuse: PrefixReuse | None = None
    pools: tuple[PoolRun, ...] = ()
    steps: tuple[FloatColumn, ...] = ()
    num_unsent: int = 0
    scaling: ScalingRun | None = None
    busy_bins: tuple[tuple[int, BusyBins], ...] = ()

    def busy_bins_of(self, group: int, num_bins: int) -> FloatColumn:
        """Return the computing time of a group's replicas together by bin, in seconds."""
        found: FloatColumn = sum((bins.seconds(num_bins) for number, bins in self.busy_bins
                                  if number == group), np.zeros(num_bins))
        return found


@dataclass(frozen=True, slots=True)
class _Parts:
    """A cluster ready to run, with the parts that are read afterwards."""

    cluster: Cluster
    replicas: list[SimReplica]
    kvs: Mapping[int, KvAllocator]
    lengths: Mapping[str, TrueLengths]  # of each model's answers
    outcomes: Outcomes
    pools: list[SimulatedPool]
    scaling: ScalingLoop | None
    busy_bins: tuple[tuple[int, BusyBins], ...]
    holding: Holding | None  # where requests are held back
    reuse: ReuseMeter | None


def simulate(fleet: Fleet, traffic: Traffic, *, beliefs: Beliefs = Beliefs(),
             journal_dir: Path | None = None, seed: int = 0, log_steps: bool = False,
             on_progress: Callable[[int], None] | None = None,
             lost: Callable[[RequestTable], bool] | None = None,
             on_over: OnOver | None = None) -> SimulationResult:
    """Run ``traffic`` on the replicas and the pools of ``fleet``, in one order of time.

    ``journal_dir`` gets one journal per replica. ``log_steps`` keeps every step. ``on_progress`` is
    called occasionally with the number of ended requests. ``lost`` gets the table so far, now and
    then, and ends the run where it returns true; it is for fleets without pools. ``on_over`` gets
    the requests in order, block by block, once they are over; the table of the result is empty
    then. Raises InputError for requests of a model that neither a pool nor a replica has.
    """
    _check_models(fleet, traffic)
    with ExitStack() as stack:
        parts = _assemble(fleet, traffic, beliefs, journal_dir, seed, stack, on_over)
        replicas = parts.replicas
        if log_steps:
            for replica in replicas:
                replica.recorder.steps = StepLog()
        flusher = Flusher(parts.cluster, replicas, parts.pools, parts.outcomes,
                          tuple(parts.lengths.values()), on_progress, lost, len(traffic))
        drain_s = fleet.run.drain_s
        until_ps = NEVER_PS
        if drain_s is not None:
            until_ps = min(NEVER_PS, to_ps(traffic.duration_s + drain_s))
        with no_cycle_search():
            requests = chain.from_iterable(_coming(fleet, traffic, parts))
            loops = traffic.loops if isinstance(traffic, Workload) else None
            upcoming = InOrder(requests) if loops is None else Looped(requests, loops)
            with suppress(Lost):
                parts.cluster.run(upcoming, flusher.on_instant, until_ps)
        flusher.flush()
    pools = tuple(pool.settle(parts.outcomes) for pool in parts.pools)
    parts.outcomes.hand_over(end=True)
    end_s = _end_s(parts, pools, traffic)
    scaled = None if parts.scaling is None else scaling_run(parts.scaling, len(fleet.replicas),
                                                            end_s, parts.holding)
    table = parts.outcomes.table(upcoming.arrived_s if isinstance(upcoming, Looped) else None)
    return SimulationResult(
        table, RunSeries([_series(replica) for replica in replicas]),
        np.array([replica.recorder.busy_ps / PS_PER_S for replica in replicas]),
        sum(replica.recorder.num_steps for replica in replicas),
        end_s, parts.outcomes.reasons, _hit_rate(parts.kvs.values()), _reuse(parts), pools,
        tuple(replica.recorder.steps.columns() for replica in replicas
              if replica.recorder.steps is not None),
        len(traffic) - len(upcoming.arrived_s) if isinstance(upcoming, Looped) else 0,
        scaled, parts.busy_bins)


def _coming(fleet: Fleet, traffic: Traffic, parts: _Parts) -> Iterator[Iterator[Request]]:
    """Yield the requests of each block, once the simulation has come to it."""
    classes = {c.name: c for c in fleet.service_classes}
    first = 0
    for block in traffic.blocks():
        parts.outcomes.expect(block)
        for model, lengths in parts.lengths.items():
            column = block.output_tokens if block.answers is None \
                else block.answers.tokens_of(model)
            lengths.add(column.tolist())
        yield requests_of(block, classes, fleet.gateway.confidential_tenants,
                          fleet.gateway.prefix_domain, first)
        first += len(block)


def _check_models(fleet: Fleet, workload: Traffic) -> None:
    """Raises InputError for requests of a model that neither a pool nor a replica has."""
    if not fleet.multiplexing or not isinstance(workload, Workload):
        return
    known = {AUTO, *(group.model.name for group in fleet.replicas),
             *(model.spec.name for pool in fleet.multiplexing for model in pool.models)}
    for index in np.unique(workload.model_index).tolist():
        if workload.models[index] not in known:
            raise InputError(f"traffic: {workload.models[index]} is on no device of multiplexing"
                             + (" and has no replicas" if fleet.replicas else ""))


def _end_s(parts: _Parts, pools: Sequence[PoolRun], workload: Traffic) -> float:
    """Return when the last request arrived or ended, or the last load ended. Timers of pools and of
    the scaling loop may be later."""
    if not pools and parts.scaling is None:
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
        return _assemble(fleet, workload, Beliefs(), None, 0, stack, None).cluster


def _assemble(fleet: Fleet, traffic: Traffic, beliefs: Beliefs, journal_dir: Path | None,
              seed: int, stack: ExitStack, on_over: OnOver | None) -> _Parts:
    outcomes = Outcomes({name: fleet.service_class(name).slo for name in traffic.service_classes},
                        on_over)
    whole = slotted(fleet)
    replicas: list[SimReplica] = []
    slots: list[Slot] = []
    engines = _Engines(whole, traffic, beliefs, journal_dir, seed, stack)
    for number, group in enumerate(whole.replicas):
        for _ in range(group.count):
            slots.append(Slot(len(replicas), number))
            replicas.append(engines.replica(number, len(replicas)))
    rng = random_stream(seed, "routing", 0)
    believed = partial(believed_step_time, fleet=fleet, seed=seed)
    router = dispatch_of(whole, lambda n: int(rng.integers(n)), believed=believed)
    specs = _replica_specs(whole, relative_speeds(whole, believed))
    reuse = ReuseMeter(engines.kvs, [spec.model for spec in specs]) \
        if any(isinstance(kv, SharedKv) for kv in engines.kvs.values()) else None
    dispatcher = Dispatcher(router, replicas, specs, outcomes.refuse, reuse)
    pools = simulated_pools(fleet, traffic, seed, len(replicas)) \
        if isinstance(traffic, Workload) else []
    scaling = holding = deferring = None
    if fleet.scales:
        demand = DemandMeter()
        deferring = fleet_deferral(fleet, seed)
        scaling = scaling_loop(fleet, len(replicas) + len(pools), slots, replicas, dispatcher,
                               demand, lambda index: engines.renew(
                                   slots[index].group, replicas[index]), seed,
                               None if journal_dir is None else stack.enter_context(
                                   (journal_dir / "scaling.jsonl").open("wb")), deferring)
        holding = Holding(to_ps(fleet.scaling.hold_s), demand, outcomes.refuse, scaling.held,
                          patience_of(fleet, seed), deferring, scaling.deferred)
    cluster = Cluster(replicas, dispatcher, outcomes.refuse, [pool.source for pool in pools],
                      PoolDoor(pools, dispatcher) if pools else None, scaling, holding)
    return _Parts(cluster, replicas, engines.kvs, engines.lengths, outcomes, pools, scaling,
                  _busy_bins(fleet, slots, replicas) if fleet.tells_energy else (),
                  None if deferring is None else holding, reuse)


def _busy_bins(fleet: Fleet, slots: Sequence[Slot],
               replicas: Sequence[SimReplica]) -> tuple[tuple[int, BusyBins], ...]:
    """Let the replicas whose power is known keep their computing time over time. Returns each with
    its group."""
    found = []
    for slot in slots:
        if fleet.pool(fleet.replicas[slot.group].accelerator.name).power_curve is not None:
            bins = replicas[slot.replica_id].recorder.busy_bins = BusyBins()
            found.append((slot.group, bins))
    return tuple(found)


class _Engines:
    """Makes the engines of simulated replicas: at the start, and again in slots whose replica has
    stopped."""

    def __init__(self, fleet: Fleet, traffic: Traffic, beliefs: Beliefs,
                 journal_dir: Path | None, seed: int, stack: ExitStack) -> None:
        self.lengths = {group.model.name: TrueLengths() for group in fleet.replicas}
        self.kvs: dict[int, KvAllocator] = {}  # of the present life of each replica
        self._fleet = fleet
        self._beliefs = beliefs
        self._journal_dir = journal_dir
        self._seed = seed
        self._stack = stack
        # How long a closed loop lasts is not known before.
        closed = isinstance(traffic, Workload) and traffic.loops is not None
        period_s = 1.0 if closed else traffic.duration_s / _NUM_SAMPLES
        self._period_ps = max(1, to_ps(period_s))
        self._models = [step_time(group) for group in fleet.replicas]
        self._factors = [beliefs.step_time_factor * belief_factor(fleet, group, seed)
                         for group in fleet.replicas]
        self._num_lives: Counter[int] = Counter()
        self._shared_tiers: dict[tuple[str, str, str], TierStore] = {}

    def replica(self, number: int, replica_id: int) -> SimReplica:
        """Return a replica of a group."""
        fleet, group, seed = self._fleet, self._fleet.replicas[number], self._seed
        model = self._models[number]
        truth = true_step_time(fleet, model, random_stream(seed, "truth", replica_id))
        clock = StepClock(truth, step_noise(fleet, random_stream(seed, "step-time", replica_id)))
        tiers = self._tiers(number)
        return SimReplica(
            replica_id, self._scheduler(number, replica_id, tiers), clock,
            Oracle(self.lengths[group.model.name]),
            ReplicaRecorder(self._period_ps, to_ps(fleet.run.warmup_s)),
            self._journal(number, replica_id), group.intake, tiers)

    def renew(self, number: int, replica: SimReplica) -> None:
        """Give a slot a fresh engine. A first life needs none."""
        self._num_lives[replica.replica_id] += 1
        replica_id = replica.replica_id
        tiers = self._tiers(number)
        replica.renew(self._scheduler(number, replica_id, tiers),
                      self._journal(number, replica_id), tiers)

    def _tiers(self, number: int) -> KvTiers | None:
        """Return the tiers below a new replica's cache: empty ones, but for shared stores."""
        group = self._fleet.replicas[number]
        block_tokens = self._fleet.engine_of(group).block_tokens
        stores = []
        for tier in tier_specs(self._fleet, group):
            key = (group.model.name, group.kv_precision, tier.name)
            stores.append(self._shared_tiers.setdefault(key, tier.store(block_tokens))
                          if tier.shared else tier.store(block_tokens))
        return KvTiers(stores) if stores else None

    def _scheduler(self, number: int, replica_id: int, tiers: KvTiers | None
                   ) -> AdaptableScheduler:
        fleet, group = self._fleet, self._fleet.replicas[number]
        kv = kv_cache(fleet, group, kv_tokens(fleet, group), tiers)
        self.kvs[replica_id] = kv
        return build_scheduler(fleet.schedule_of(group),
                               biased(self._models[number], self._factors[number]), kv,
                               self._beliefs.lengths())

    def _journal(self, number: int, replica_id: int) -> Journal | None:
        if self._journal_dir is None:
            return None
        life = self._num_lives[replica_id]
        name = f"journal-{replica_id}.jsonl" if not life else f"journal-{replica_id}-{life}.jsonl"
        stream = self._stack.enter_context((self._journal_dir / name).open("wb"))
        return Journal(stream, journal_header(self._fleet, self._fleet.replicas[number],
                                              replica_id, self._factors[number]))


def _replica_specs(fleet: Fleet, relative_speed: list[float]) -> list[ReplicaSpec]:
    speeds = iter(relative_speed)
    return [ReplicaSpec(group.model.name,
                 None if group.service_classes is None else frozenset(group.service_classes),
                 next(speeds), group.confidentiality)
            for group in fleet.replicas for _ in range(group.count)]


def _hit_rate(kvs: Iterable[KvAllocator]) -> float | None:
    rates = [kv.hit_rate for kv in kvs if isinstance(kv, SharedKv)]
    return float(np.mean(rates)) if rates else None


def _reuse(parts: _Parts) -> PrefixReuse | None:
    return None if parts.reuse is None else parts.reuse.reuse(
        sum(replica.recorder.cached_tokens for replica in parts.replicas))


def _series(replica: SimReplica) -> ReplicaSeries:
    columns = replica.recorder.samples.columns()
    return ReplicaSeries(
        replica.replica_id, columns[:, 0] / PS_PER_S, columns[:, 1] / PS_PER_S, columns[:, 2],
        columns[:, 3], columns[:, 4], columns[:, 5], replica.scheduler.kv_total_tokens,
        replica.recorder.samples.every_step)
