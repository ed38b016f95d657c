"""Simulates the devices of a fleet on which models take turns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from penstock.core.errors import InputError
from penstock.core.request import AUTO
from penstock.engine.parts import random_stream
from penstock.engine.residency import deadline_after_s, devices_of, policy_of
from penstock.engine.sim.residency.driver import ResidencySimulation
from penstock.engine.sim.residency.machine import Variation
from penstock.engine.sim.residency.record import ResidencyRun
from penstock.engine.sim.residency.stepped import BatchCost, Lengths, SteppedMachine
from penstock.fleet.residency import usual_batch
from penstock.fleet.values import Fleet
from penstock.fleet.values_residency import DevicePool, SwappedModel
from penstock.metrics.definitions import IntColumn
from penstock.metrics.table import (
    FINISHED,
    NO_REPLICA,
    SHED,
    UNFINISHED,
    RequestTable,
    concat,
)
from penstock.perf.loading.host_loads import HostLoads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import LoadEvidence
from penstock.perf.make import make_step_time
from penstock.policy.residency.beliefs import LoadBelief, LoadTable
from penstock.policy.residency.values import Queued
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolRun:
    """What happened on one pool; ``run`` has its requests in order of arrival, and models by their
    place in the pool."""

    pool: DevicePool
    run: ResidencyRun


@dataclass(frozen=True, slots=True)
class PoolsResult:
    """Every request and what was done for it; ``end_s`` is when the last device was done."""

    table: RequestTable
    pools: tuple[PoolRun, ...]
    end_s: float
    reasons: Mapping[str, int]


def simulate_pools(fleet: Fleet, workload: Workload, seed: int = 0,
                   on_progress: Callable[[int], None] | None = None) -> PoolsResult:
    """Serve a workload on the fleet's pools. A model that stands in several is served by the first.

    Raises InputError for requests of a model that takes turns nowhere, or of no model at all.
    """
    places = _pool_of(fleet, workload)
    tables, runs = [], []
    for place, pool in enumerate(fleet.residency):
        rows = np.flatnonzero(places == place)
        table, run = _simulate(fleet, pool, workload, rows, seed, on_progress)
        tables.append(table)
        runs.append(PoolRun(pool, run))
    reasons: dict[str, int] = {}
    for one in runs:
        for code, reason in enumerate(one.run.reasons):
            reasons[reason] = reasons.get(reason, 0) + int((one.run.reason == code).sum())
    table = concat(tables)
    order = np.argsort(table.request_id)
    ends = [end for one in runs for end in (
        *(load.begin_s + load.seconds for load in one.run.loads),
        *(batch.begin_s + batch.seconds for batch in one.run.batches))]
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
              on_progress: Callable[[int], None] | None) -> tuple[RequestTable, ResidencyRun]:
    models = {model.spec.name: place for place, model in enumerate(pool.models)}
    asked = [models.get(name, NO_REPLICA) for name in workload.models]
    after_s = [[deadline_after_s(model, one) for one in fleet.service_classes]
               for model in pool.models]
    classes = {one.name: place for place, one in enumerate(fleet.service_classes)}
    class_of = [classes[name] for name in workload.service_classes]
    requests = [
        Queued(place, asked[model], at_s, at_s + after_s[asked[model]][class_of[service_class]],
               prompt, most)
        for place, (at_s, model, service_class, prompt, most) in enumerate(zip(
            *(column[rows].tolist() for column in (
                workload.arrival_s, workload.model_index, workload.class_index,
                workload.prompt_tokens, workload.max_tokens)), strict=True))]
    machine = SteppedMachine(
        _loads(pool), [_cost(pool, model) for model in pool.models],
        Lengths(workload.prompt_tokens[rows].tolist(), workload.output_tokens[rows].tolist()),
        _variation(fleet, pool, seed), continuous=pool.continuous, on_progress=on_progress)
    until_s = inf if fleet.run.drain_s is None else workload.duration_s + fleet.run.drain_s
    run = ResidencySimulation(policy_of(pool, fleet.service_classes, _loads(pool)),
                              devices_of(pool), machine).run(requests, until_s)
    return _table(fleet, pool, workload, rows, run, machine), run


def _loads(pool: DevicePool) -> LoadBelief:
    """What loads take: what the file says of each, or of the host that they come from."""
    host = pool.host
    if host is None:
        return LoadTable([model.load_s for model in pool.models])
    loading = LoadingModel(host.disk_bytes_per_s, host.copy_bytes_per_s, _STATED,
                           fixed_s=host.fixed_s, overlap=host.overlap)
    sizes = [model.spec.weight_bytes(model.precision) for model in pool.models]
    return HostLoads([model.spec.name for model in pool.models], sizes, loading,
                     HostMemory(host.memory_bytes))


_STATED = LoadEvidence("the fleet file", 0.0, 0.0)


def _cost(pool: DevicePool, model: SwappedModel) -> BatchCost:
    """By step times, unless the file states what batches take."""
    steps = make_step_time(None, model.spec, pool.accelerator, precision=model.precision)
    usual = usual_batch(model.spec, pool.accelerator, model.precision)
    return BatchCost(steps, None if model.batch == usual else model.batch)


def _variation(fleet: Fleet, pool: DevicePool, seed: int) -> Variation:
    noise = fleet.run.step_time_noise
    rng = random_stream(seed, f"residency {pool.name}", 0) if noise else None
    return Variation(rng, noise)


def _table(fleet: Fleet, pool: DevicePool, workload: Workload, rows: IntColumn, run: ResidencyRun,
           machine: SteppedMachine) -> RequestTable:
    """The rows of one pool. The answers of a static batch come when it ends, all tokens at once;
    others begin after their prompts."""
    served, output = run.served, workload.output_tokens[rows]
    began = [machine.began.get(place) for place in range(len(rows))]
    first_s, itl_s = run.end_s, np.full(len(rows), np.nan)
    if pool.continuous:
        prefill_s = np.array([one.prefill_s if one else 0.0 for one in began])
        first_s = np.where(served, run.begin_s + prefill_s, np.nan)
        itl_s = (run.end_s - first_s) / np.where(output > 1, output - 1, np.nan)
    status = np.where(served, FINISHED, np.where(np.isnan(run.shed_s), UNFINISHED, SHED))
    nothing = np.zeros(len(rows), np.int32)
    table = RequestTable(
        rows, workload.model_index[rows].astype(np.int32),
        workload.class_index[rows].astype(np.int32), workload.tenant_index[rows].astype(np.int32),
        np.array([one.device if one else NO_REPLICA for one in began], np.int32),
        workload.arrival_s[rows], workload.prompt_tokens[rows], np.where(served, output, 0),
        run.begin_s, first_s, run.end_s, itl_s, itl_s, itl_s, nothing.astype(np.int64), nothing,
        nothing, status.astype(np.int8), served, workload.models, workload.service_classes,
        workload.tenants).judged({one.name: one.slo for one in fleet.service_classes})
    # A model's own deadline may be sooner than its class's.
    return replace(table, met_slo=table.met_slo & run.in_time)
