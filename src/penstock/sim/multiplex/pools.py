"""Simulates the devices of a fleet on which models take turns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from penstock.core.errors import InputError
from penstock.core.request import AUTO
from penstock.fleet.judge import confidential_rows
from penstock.fleet.multiplex_factory import deadline_after_s, devices_of, policy_of
from penstock.fleet.replica_factory import random_stream, true_step_time
from penstock.fleet.residency import usual_batch
from penstock.fleet.values import Fleet
from penstock.fleet.values_residency import DevicePool
from penstock.metrics.definitions import IntColumn
from penstock.metrics.table import (
    FINISHED,
    NO_REPLICA,
    REJECTED,
    SHED,
    UNFINISHED,
    RequestTable,
    concat,
)
from penstock.perf.loading.facts import compute_penalty, confidential_terms
from penstock.perf.loading.host_loads import HostLoads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import LoadEvidence
from penstock.perf.step_time.make import make_step_time
from penstock.policy.multiplex.attested import OnlyAttested
from penstock.policy.multiplex.beliefs import LoadBelief, LoadTable
from penstock.policy.multiplex.values import Queued
from penstock.sim.columns import Outcomes
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.driver import ResidencySimulation
from penstock.sim.multiplex.machine import Variation
from penstock.sim.multiplex.record import ResidencyRun
from penstock.sim.multiplex.stepped import BatchCost, Lengths, SteppedMachine
from penstock.workload.requests import requests as requests_of
from penstock.workload.select import select
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolRun:
    """What happened on one pool; ``run`` has its requests in order of arrival, which are ``rows``
    of the fleet's table, and models by their place in the pool. ``computing_s``: of each device,
    where batching is continuous. ``is_secret``: whether any of the requests was confidential."""

    pool: DevicePool
    run: ResidencyRun
    rows: IntColumn
    computing_s: tuple[float, ...] = ()
    is_secret: bool = False


@dataclass(frozen=True, slots=True)
class PoolsResult:
    """Every request and what was done for it; devices are numbered through all pools. ``end_s`` is
    when the last of them was done."""

    table: RequestTable
    pools: tuple[PoolRun, ...]
    end_s: float
    reasons: Mapping[str, int]


def simulate_pools(fleet: Fleet, workload: Workload, seed: int = 0,
                   on_progress: Callable[[int], None] | None = None) -> PoolsResult:
    """Serve a workload on the fleet's pools. A model that stands in several is served by the first.

    Devices in confidential mode take longer by what SINCERE's runs took; confidential requests run
    on those that are attested. Raises InputError for requests of a model that takes turns nowhere
    or of no model at all.
    """
    places = _pool_of(fleet, workload)
    tables, runs, num_devices = [], [], 0
    for place, pool in enumerate(fleet.residency):
        rows = np.flatnonzero(places == place)
        table, run = _simulate(fleet, pool, workload, rows, seed, on_progress)
        placed = table.replica != NO_REPLICA
        tables.append(replace(table, replica=np.where(placed, table.replica + num_devices,
                                                      NO_REPLICA).astype(np.int32)))
        num_devices += pool.count
        runs.append(run)
    reasons: dict[str, int] = {}
    for one in runs:
        for code, reason in enumerate(one.run.reasons):
            reasons[reason] = reasons.get(reason, 0) + int((one.run.reason == code).sum())
    table = concat(tables)
    order = np.argsort(table.request_id)
    ends = [end for one in runs for end in (
        *(load.begin_s + load.seconds for load in one.run.loads),
        *one.run.end_s[one.run.served].tolist())]
    return PoolsResult(table.take(order), tuple(runs), max([workload.duration_s, *ends]), reasons)


def _pool_of(fleet: Fleet, workload: Workload) -> IntColumn:
    """The pool of each request."""
    first = {model.spec.name: place for place, pool in reversed(list(enumerate(fleet.residency)))
             for model in pool.models}
    if AUTO in workload.models:
        raise InputError("traffic: model auto leaves the choice to a gateway; to simulate models "
                         "that take turns, name one in each entry")
    asked = np.unique(workload.model_index)
    for index in asked.tolist():
        if workload.models[index] not in first:
            raise InputError(f"traffic: {workload.models[index]} is on no device of residency")
    return np.array([first.get(name, NO_REPLICA) for name in workload.models],
                    np.int64)[workload.model_index]


def _simulate(fleet: Fleet, pool: DevicePool, workload: Workload, rows: IntColumn, seed: int,
              on_progress: Callable[[int], None] | None) -> tuple[RequestTable, PoolRun]:
    mine = select(workload, np.isin(np.arange(len(workload)), rows))
    machine = SteppedMachine(
        _loads(pool), [_costs(fleet, pool, device, seed) for device in range(pool.count)],
        Lengths(mine.prompt_tokens.tolist(), mine.output_tokens.tolist()),
        _variation(fleet, pool, seed), on_progress)
    residents = [_residents(fleet, pool, mine, device, seed) for device in range(pool.count)] \
        if pool.continuous else []
    until_s = inf if fleet.run.drain_s is None else workload.duration_s + fleet.run.drain_s
    confidential = frozenset(np.flatnonzero(confidential_rows(fleet, mine)).tolist())
    policy = policy_of(pool, fleet.service_classes, _loads(pool))
    gate = OnlyAttested(policy, pool.confidentiality, confidential) if confidential else None
    run = ResidencySimulation(gate or policy, devices_of(pool), machine, residents).run(
        _queued(fleet, pool, mine), until_s)
    computing_s = tuple(sum(one.busy_s(model) for model in range(len(pool.models)))
                        for one in residents)
    outcomes = Outcomes(mine, [fleet.service_class(name).slo for name in mine.service_classes])
    if residents:
        for device, one in enumerate(residents):
            for ended in one.answers().values():
                outcomes.store(device, ended, {
                    place for place in ended.request_id.tolist() if not run.served[place]})
        table = outcomes.table()
    else:
        table = _answered_whole(outcomes.table(), mine, run, machine)
    status = np.where(np.isnan(run.shed_s), table.status, SHED).astype(np.int8)
    if gate is not None:
        status[list(gate.refused)] = REJECTED
    table = replace(table, request_id=rows, status=status).judged(
        {one.name: one.slo for one in fleet.service_classes})
    # A model's own deadline may be sooner than its class's.
    return replace(table, met_slo=table.met_slo & run.in_time), PoolRun(
        pool, run, rows, computing_s, bool(confidential))


def _queued(fleet: Fleet, pool: DevicePool, workload: Workload) -> list[Queued]:
    """The requests as the policy sees them."""
    models = {model.spec.name: place for place, model in enumerate(pool.models)}
    asked = [models.get(name, NO_REPLICA) for name in workload.models]
    due_s = [[deadline_after_s(model, fleet.service_class(name))
              for name in workload.service_classes] for model in pool.models]
    columns = (workload.arrival_s, workload.model_index, workload.class_index,
               workload.prompt_tokens, workload.max_tokens)
    return [Queued(place, asked[model], at_s, at_s + due_s[asked[model]][kind], prompt, most)
            for place, (at_s, model, kind, prompt, most) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True))]


def _residents(fleet: Fleet, pool: DevicePool, workload: Workload, device: int,
               seed: int) -> Residents:
    """What computes on one device: an iteration scheduler for each model, whose KV cache is what
    ``size_bytes`` has beside the weights; where that holds no request, nothing limits it."""
    longest = int((workload.prompt_tokens + workload.max_tokens).max(initial=1))
    specs = []
    rng = _truth(pool, device, seed)
    for model in pool.models:
        weights = model.spec.weight_bytes(model.precision)
        tokens = (model.size_bytes - weights) // model.spec.kv_bytes_per_token("bf16")
        most = fleet.policies.schedule.max_num_seqs
        schedule = replace(fleet.policies.schedule, max_num_seqs=min(model.max_batch, most))
        room = tokens if tokens >= longest else (longest + fleet.engine.block_tokens) \
            * model.max_batch
        believed = make_step_time(None, model.spec, pool.accelerator, precision=model.precision)
        specs.append(EngineSpec(
            true_step_time(fleet, believed, rng), room, schedule, fleet.engine.block_tokens,
            fleet.engine.prefix_caching, believed))
    classes = {one.name: one for one in fleet.service_classes}
    return Residents(specs, list(requests_of(workload, classes)), workload.output_tokens.tolist())


def _loads(pool: DevicePool) -> LoadBelief:
    """What loads take: what the file says of each, or of the host that they come from."""
    host = pool.host
    if host is None:
        return LoadTable([model.load_s for model in pool.models])
    loading = LoadingModel(host.disk_bytes_per_s, host.copy_bytes_per_s, _STATED,
                           fixed_s=host.fixed_s, overlap=host.overlap,
                           confidential=confidential_terms() if pool.accelerator.confidential
                           else None)
    sizes = [model.spec.weight_bytes(model.precision) for model in pool.models]
    return HostLoads([model.spec.name for model in pool.models], sizes, loading,
                     HostMemory(host.memory_bytes))


_STATED = LoadEvidence("the fleet file", 0.0, 0.0)


def _truth(pool: DevicePool, device: int, seed: int) -> np.random.Generator:
    """The stream that a device's true step times are drawn from, for one model after another."""
    return random_stream(seed, f"truth {pool.name}", device)


def _costs(fleet: Fleet, pool: DevicePool, device: int, seed: int) -> list[BatchCost]:
    """Batches of each model on a device: by step times, unless the file states what they take."""
    costs, rng = [], _truth(pool, device, seed)
    for model in pool.models:
        believed = make_step_time(None, model.spec, pool.accelerator, precision=model.precision)
        usual = usual_batch(model.spec, pool.accelerator, model.precision)
        stated = None if model.batch == usual else model.batch
        extra_s = (compute_penalty().intercept_s
                   if pool.accelerator.confidential and stated is None else 0.0)
        costs.append(BatchCost(true_step_time(fleet, believed, rng), stated, extra_s))
    return costs


def _variation(fleet: Fleet, pool: DevicePool, seed: int) -> Variation:
    noise = fleet.run.step_time_noise
    rng = random_stream(seed, f"residency {pool.name}", 0) if noise else None
    return Variation(rng, noise)


def _answered_whole(table: RequestTable, workload: Workload, run: ResidencyRun,
                    machine: SteppedMachine) -> RequestTable:
    """The rows where batches are static: answers come when the batch ends, all tokens at once."""
    devices = [machine.device_of.get(place, NO_REPLICA) for place in range(len(table))]
    return replace(
        table, replica=np.array(devices, np.int32), first_scheduled_s=run.begin_s,
        first_token_s=run.end_s, last_token_s=run.end_s,
        output_tokens=np.where(run.served, workload.output_tokens, 0),
        status=np.where(run.served, FINISHED, UNFINISHED).astype(np.int8))
