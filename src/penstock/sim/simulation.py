"""Simulates a fleet on a workload."""

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
from penstock.fleet.adapter_costs import taken_adapters
from penstock.fleet.disaggregation import roles_of
from penstock.fleet.replica_factory import (
    believed_step_time,
    dispatch_of,
    random_stream,
    relative_speeds,
)
from penstock.fleet.scaler import fleet_deferral, patience_of
from penstock.fleet.scaling import slotted
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.run_summary import AdapterLoads
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import RequestTable
from penstock.perf.kv_transfer import sent_bytes_per_token
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv
from penstock.policy.scale.demand import DemandMeter
from penstock.sim.beliefs import NO_ERRORS, Beliefs
from penstock.sim.cluster import Cluster
from penstock.sim.columns import OnOver, Outcomes
from penstock.sim.cycles import no_cycle_search
from penstock.sim.dispatch import Dispatcher, ReplicaSpec
from penstock.sim.drafts import TrueDrafts
from penstock.sim.engines import SimulatedEngines
from penstock.sim.flusher import Flusher, Lost
from penstock.sim.handover import Handover, Moved, Sender
from penstock.sim.kernel import NEVER_PS
from penstock.sim.multiplex.pools import PoolRun, SimulatedPool, simulated_pools
from penstock.sim.multiplex.routing import PoolDoor
from penstock.sim.oracle import TrueLengths
from penstock.sim.parts import Elsewhere, Part, routes_blindly
from penstock.sim.replica import SimReplica
from penstock.sim.reuse import PrefixReuse, ReuseMeter
from penstock.sim.scaling.build import ScalingRun, scaling_loop, scaling_run
from penstock.sim.scaling.holding import Holding
from penstock.sim.scaling.loop import ScalingLoop
from penstock.sim.scaling.slots import Slot
from penstock.sim.step_log import StepLog
from penstock.sim.timeline import BusyBins
from penstock.sim.upcoming import Dependent, InOrder
from penstock.workload.requests import requests as requests_of
from penstock.workload.workload import Traffic, Workload


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """Result of a simulation: every request, the busy time of replicas, the results of pools, and
    the reasons of rejections.

    Devices of pools are numbered after the replicas. ``series``, ``busy_s`` and ``num_steps`` are
    of the replicas. ``steps`` has the columns of ``StepLog`` for each replica, where asked for.
    ``num_unsent`` requests of closed loops or sessions were not sent before the end. Where replicas
    are scaled, ``busy_s`` has one for each slot. ``busy_bins`` has the group and the computing time
    over time of each replica whose energy is told. ``moved`` are the prompts that moved to another
    replica, None where replicas have no roles. ``adapter_loads`` are those of all replicas, None
    where none takes adapters.
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
    moved: Moved | None = None
    adapter_loads: AdapterLoads | None = None

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
    handover: Handover | None
    groups: tuple[ReplicaGroup, ...]
    drafts: Sequence[TrueDrafts | None]  # of each group
    reuse: ReuseMeter | None


def simulate(fleet: Fleet, traffic: Traffic, *, beliefs: Beliefs = NO_ERRORS,
             journal_dir: Path | None = None, seed: int = 0, log_steps: bool = False,
             on_progress: Callable[[int], None] | None = None,
             lost: Callable[[RequestTable], bool] | None = None,
             on_over: OnOver | None = None, part: Part | None = None) -> SimulationResult:
    """Run ``traffic`` on the replicas and the pools of ``fleet``, in one order of time.

    ``journal_dir`` gets one journal per replica. ``log_steps`` keeps every step. ``on_progress`` is
    called occasionally with the number of ended requests. ``lost`` gets the table so far, now and
    then, and ends the run where it returns true; it is for fleets without pools. ``on_over`` gets
    the requests in order, block by block, once they are over; the table of the result is empty
    then. With a ``part`` of ``parts_of`` only its replicas and their requests are simulated. Raises
    InputError for requests of a model that neither a pool nor a replica has.
    """
    _check_models(fleet, traffic)
    with ExitStack() as stack:
        parts = _assemble(fleet, traffic, beliefs, journal_dir, seed, stack, on_over, part)
        replicas = parts.replicas
        if log_steps:
            for replica in replicas:
                replica.recorder.steps = StepLog()
        flusher = Flusher(parts.cluster, replicas, parts.pools, parts.outcomes,
                          (*parts.lengths.values(), *filter(None, parts.drafts)), on_progress,
                          lost, len(traffic))
        drain_s = fleet.run.drain_s
        until_ps = NEVER_PS
        if drain_s is not None:
            until_ps = min(NEVER_PS, to_ps(traffic.duration_s + drain_s))
        with no_cycle_search():
            requests = chain.from_iterable(_coming(fleet, traffic, parts))
            upcoming = Dependent(requests, traffic) \
                if isinstance(traffic, Workload) and traffic.waits else InOrder(requests)
            with suppress(Lost):
                parts.cluster.run(upcoming, flusher, until_ps)
        flusher.flush()
    pools = tuple(pool.settle(parts.outcomes) for pool in parts.pools)
    parts.outcomes.hand_over(end=True)
    end_s = _end_s(parts, pools, traffic)
    scaled = None if parts.scaling is None else scaling_run(parts.scaling, len(fleet.replicas),
                                                            end_s, parts.holding)
    table = parts.outcomes.table(upcoming.arrived_s if isinstance(upcoming, Dependent) else None)
    return SimulationResult(
        table, RunSeries([_series(replica) for replica in replicas]),
        np.array([replica.recorder.busy_ps / PS_PER_S for replica in replicas]),
        sum(replica.recorder.num_steps for replica in replicas),
        end_s, parts.outcomes.reasons, _hit_rate(parts.kvs.values()), _reuse(parts), pools,
        tuple(replica.recorder.steps.columns() for replica in replicas
              if replica.recorder.steps is not None),
        len(traffic) - len(upcoming.arrived_s) if isinstance(upcoming, Dependent) else 0,
        scaled, parts.busy_bins, None if parts.handover is None else parts.handover.moved,
        _adapter_loads(replicas, parts.pools))


def _adapter_loads(replicas: Sequence[SimReplica], pools: Sequence[SimulatedPool]
                   ) -> AdapterLoads | None:
    stores = [one.adapters for one in replicas if one.adapters is not None]
    stores += [store for pool in pools for store in pool.stores]
    return AdapterLoads(
        from_disk=sum(one.num_fetches for one in stores),
        to_device=sum(one.num_copies for one in stores),
        waited_s=sum(one.loaded_ps for one in stores) / PS_PER_S) if stores else None


def _coming(fleet: Fleet, traffic: Traffic, parts: _Parts) -> Iterator[Iterator[Request]]:
    """Yield the requests of each block, once the simulation has come to it."""
    classes = {c.name: c for c in fleet.service_classes}
    first = 0
    for block in traffic.blocks():
        parts.outcomes.expect(block)
        _tell(parts, block)
        yield requests_of(block, classes, fleet.gateway.confidential_tenants,
                          fleet.gateway.prefix_domain, first)
        first += len(block)


def _tell(parts: _Parts, block: Workload) -> None:
    """Tell the true lengths of a block's answers to those that may know them."""
    for model, lengths in parts.lengths.items():
        column = block.output_tokens if block.answers is None \
            else block.answers.tokens_of(model)
        lengths.add(column.tolist())
        for group, drafts in zip(parts.groups, parts.drafts, strict=True):
            if drafts is not None and group.model.name == model:
                drafts.add(column, block.class_index)


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
        parts = _assemble(fleet, workload, NO_ERRORS, None, 0, stack)
        for block in workload.blocks():
            _tell(parts, block)
        return parts.cluster


def _assemble(fleet: Fleet, traffic: Traffic, beliefs: Beliefs, journal_dir: Path | None,
              seed: int, stack: ExitStack, on_over: OnOver | None = None,
              part: Part | None = None) -> _Parts:
    elsewhere = None if part is None else Elsewhere(part)
    outcomes = Outcomes({name: fleet.service_class(name).slo for name in traffic.service_classes},
                        on_over, elsewhere)
    whole = slotted(fleet)
    replicas: list[SimReplica] = []
    slots: list[Slot] = []
    engines = SimulatedEngines(whole, traffic, beliefs, journal_dir, seed, stack)
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
    refused = outcomes.refuse
    if elsewhere is not None and part is not None and part.number:
        refused = elsewhere.refused
    dispatcher = Dispatcher(router, replicas, specs, refused, roles_of(whole), reuse,
                            routes_blindly(whole))
    handover = _handover(whole, dispatcher, replicas, engines.kvs)
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
                      PoolDoor(pools, dispatcher) if pools else None, scaling, holding, handover,
                      elsewhere)
    return _Parts(cluster, replicas, engines.kvs, engines.lengths, outcomes, pools, scaling,
                  _busy_bins(fleet, slots, replicas) if fleet.tells_energy else (),
                  None if deferring is None else holding, handover, whole.replicas,
                  engines.drafts, reuse)


def _handover(fleet: Fleet, dispatcher: Dispatcher, replicas: Sequence[SimReplica],
              kvs: Mapping[int, KvAllocator]) -> Handover | None:
    """Return the way of prompts between replicas, None where all do everything."""
    if fleet.disaggregation is None:
        return None
    senders = [Sender(sent_bytes_per_token(group.model, group.parallelism, group.kv_precision),
                      group.model.cached_layers)
               for group in fleet.replicas for _ in range(group.count)]
    return Handover(dispatcher, replicas, senders, fleet.disaggregation.transfer, kvs)


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


def _replica_specs(fleet: Fleet, relative_speed: list[float]) -> list[ReplicaSpec]:
    speeds = iter(relative_speed)
    return [ReplicaSpec(group.model.name,
                 None if group.service_classes is None else frozenset(group.service_classes),
                 next(speeds), group.confidentiality,
                 taken_adapters(fleet, group.model.name, group.lora))
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
