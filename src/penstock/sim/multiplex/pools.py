"""The pools of a fleet as sources of the event kernel, and the result of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from penstock.core.hardware import Parallelism
from penstock.core.request import AUTO, Request
from penstock.fleet.adapter_costs import adapter_store, slot_bytes, taken_adapters
from penstock.fleet.judge import confidential_rows
from penstock.fleet.multiplex_factory import deadline_after_s, devices_of, policy_of
from penstock.fleet.multiplexing import usual_batch
from penstock.fleet.replica_factory import believed_of, random_stream, true_step_time
from penstock.fleet.values import Fleet
from penstock.fleet.values_multiplexing import DevicePool, SwappedModel
from penstock.metrics.definitions import IntColumn
from penstock.metrics.table import NO_REPLICA
from penstock.perf.loading.facts import compute_penalty, confidential_terms
from penstock.perf.loading.host_loads import HostLoads
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.loading.model import LoadingModel
from penstock.perf.loading.values import LoadEvidence
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.multiplex.attested import OnlyAttested
from penstock.policy.multiplex.beliefs import LoadBelief, LoadTable
from penstock.policy.multiplex.values import Queued
from penstock.policy.schedule.adapters import AdapterStore
from penstock.registry.step_times import make_step_time
from penstock.sim.columns import Outcomes
from penstock.sim.multiplex.continuous import EngineSpec, Residents
from penstock.sim.multiplex.machine import Variation
from penstock.sim.multiplex.pool import MultiplexedPool
from penstock.sim.multiplex.record import MultiplexRun, Recorder
from penstock.sim.multiplex.stepped import BatchCost, Lengths, SteppedMachine
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolRun:
    """Result of one pool. ``run`` has its requests in order of arrival, which are ``rows`` of the
    fleet's table, and models by their place in the pool. ``computing_s`` is by device, with
    continuous batching only. ``is_secret`` says whether any request was confidential."""

    pool: DevicePool
    run: MultiplexRun
    rows: IntColumn
    computing_s: tuple[float, ...] = ()
    is_secret: bool = False


class SimulatedPool:
    """A pool of a fleet in one simulation: its ``source`` for the kernel, and its parts.

    Requests are identified by their rows of the workload; ``secret`` are the confidential ones.
    ``first_device`` is the number of the pool's first device among all replicas and devices of the
    fleet. ``requests`` are filled in as they arrive, for ``residents``. ``adapters`` are those that
    each model's engine takes.
    """

    def __init__(self, pool: DevicePool, first_device: int, source: MultiplexedPool,
                 record: Recorder, machine: SteppedMachine, residents: Sequence[Residents],
                 requests: dict[int, Request], gate: OnlyAttested | None,
                 secret: Collection[int], adapters: Sequence[frozenset[str]]) -> None:
        self.pool = pool
        self.source = source
        self.record = record
        self._first_device = first_device
        self._machine = machine
        self._residents = residents
        self._requests = requests
        self._gate = gate
        self._secret = secret
        self._adapters = adapters
        self._due_after_s: dict[tuple[int, str], float] = {}

    def takes(self, request: Request, model: int) -> bool:
        """Whether the engine of a model may have a request's adapter."""
        return not request.adapter or request.adapter in self._adapters[model]

    def arrive(self, request: Request, model: int, now_ps: int) -> None:
        """Take a request for one of the pool's models."""
        if self._residents:
            self._requests[request.request_id] = request
        self.source.arrive(self._queued(request, model), now_ps)

    def missed(self, request: Request, model: int) -> None:
        """Record a request that arrives after the end of the run: received, and never served."""
        self.record.arrived(self._queued(request, model))

    def _queued(self, request: Request, model: int) -> Queued:
        """Return the request as the policy sees it."""
        key = (model, request.service_class.name)
        due_s = self._due_after_s.get(key)
        if due_s is None:
            due_s = self._due_after_s[key] = deadline_after_s(self.pool.models[model],
                                                              request.service_class)
        return Queued(request.request_id, model, request.arrival_s, request.arrival_s + due_s,
                      request.prompt_tokens, request.max_tokens)

    @property
    def stores(self) -> list[AdapterStore]:
        """Stores of adapters of all devices and models."""
        return [store for one in self._residents for store in one.stores.values()]

    def settle(self, outcomes: Outcomes) -> PoolRun:
        """Write the pool's requests to the fleet's table and return the pool's result."""
        run, rows = self.source.run(), np.array(self.record.request_ids, dtype=np.int64)
        if self._residents:
            unserved = set(rows[~run.served].tolist())
            for device, residents in enumerate(self._residents, self._first_device):
                for ended in residents.answers().values():
                    outcomes.store(device, ended, unserved.intersection(ended.request_id.tolist()))
        else:
            began_on = self._machine.device_of
            outcomes.whole(rows, [self._first_device + began_on[row] if row in began_on
                                  else NO_REPLICA for row in rows.tolist()], run.begin_s, run.end_s)
        rejected = sorted(self._gate.refused) if self._gate is not None else []
        outcomes.turned_away(rows[~np.isnan(run.shed_s)], rejected, {
            reason: int((run.reason == code).sum()) for code, reason in enumerate(run.reasons)})
        outcomes.late(rows[~run.in_time])  # a model's own deadline may be sooner than its class's
        computing_s = tuple(sum(one.busy_s(model) for model in range(len(self.pool.models)))
                            for one in self._residents)
        return PoolRun(self.pool, run, rows, computing_s,
                       any(row in self._secret for row in rows.tolist()))


def simulated_pools(fleet: Fleet, workload: Workload, seed: int,
                    num_replicas: int) -> list[SimulatedPool]:
    """Return the pools of a fleet, numbered after its replicas."""
    lengths = Lengths(workload.prompt_tokens.tolist(), workload.output_tokens.tolist())
    pools: list[SimulatedPool] = []
    first_device = num_replicas
    for number, pool in enumerate(fleet.multiplexing, num_replicas):
        pools.append(_simulated(fleet, pool, workload, lengths, number, first_device, seed))
        first_device += pool.count
    return pools


def _simulated(fleet: Fleet, pool: DevicePool, workload: Workload, lengths: Lengths, number: int,
               first_device: int, seed: int) -> SimulatedPool:
    """Return a pool whose source has this ``number``.

    Devices in confidential mode are slower by SINCERE's measurements. Confidential requests run on
    attested devices.
    """
    truths = [_step_times(fleet, pool, device, seed) for device in range(pool.count)]
    costs = [[_cost(pool, model, steps) for model, steps in zip(pool.models, truth, strict=True)]
             for truth in truths]
    machine = SteppedMachine(_loads(pool), costs, lengths, _variation(fleet, pool, seed))
    requests: dict[int, Request] = {}
    specs = _engines(fleet, pool, workload, seed) if pool.continuous else []
    residents = [Residents([replace(spec, step_time=steps) for spec, steps in zip(
        specs, truth, strict=True)], requests, lengths.output_tokens)
        for truth in truths if pool.continuous]
    secret = frozenset(np.flatnonzero(confidential_rows(fleet, workload)).tolist())
    policy = policy_of(pool, fleet.service_classes, _loads(pool))
    gate = OnlyAttested(policy, pool.confidentiality, secret) if secret else None
    record = Recorder(len(workload))
    source = MultiplexedPool(number, gate or policy, devices_of(pool), machine, residents, record)
    return SimulatedPool(pool, first_device, source, record, machine, residents, requests, gate,
                         secret, [taken_adapters(fleet, model.spec.name, model.lora)
                                  for model in pool.models])


def _engines(fleet: Fleet, pool: DevicePool, workload: Workload, seed: int) -> list[EngineSpec]:
    """Return the engine settings of each model. Its KV cache is ``size_bytes`` less the weights and
    the places for adapters; if that holds no request, the cache is unlimited."""
    names = {model.spec.name for model in pool.models}
    asked = np.array([name in names or name == AUTO for name in workload.models], dtype=np.bool_)
    tokens = (workload.prompt_tokens + workload.max_tokens)[asked[workload.model_index]]
    longest = int(tokens.max(initial=1))
    specs = []
    rng = random_stream(seed, f"belief {pool.name}", 0)
    for model in pool.models:
        fixed = model.spec.weight_bytes(model.precision) + round(
            slot_bytes(model.spec, Parallelism(), model.lora))
        room = (model.size_bytes - fixed) // model.spec.kv_bytes_per_token("bf16")
        if room < longest:
            room = (longest + fleet.engine.block_tokens) * model.max_batch
        most = fleet.policies.schedule.max_num_seqs
        believed = believed_of(fleet, _step_time(pool, model), rng)
        specs.append(EngineSpec(
            believed, room,
            replace(fleet.policies.schedule, max_num_seqs=min(model.max_batch, most)),
            fleet.engine.block_tokens, fleet.engine.prefix_caching, believed,
            adapter_store(fleet, model.spec, pool.accelerator, Parallelism(), model.lora)))
    return specs


def _step_time(pool: DevicePool, model: SwappedModel) -> StepTimeModel:
    """Return the step-time model of a model of the pool."""
    return make_step_time(None, model.spec, pool.accelerator, precision=model.precision)


def _step_times(fleet: Fleet, pool: DevicePool, device: int, seed: int) -> list[StepTimeModel]:
    """Return the true step times of each model on a device."""
    rng = random_stream(seed, f"truth {pool.name}", device)
    return [true_step_time(fleet, _step_time(pool, model), rng) for model in pool.models]


def _loads(pool: DevicePool) -> LoadBelief:
    """Return the believed load times, from the file's models or its host."""
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


def _cost(pool: DevicePool, model: SwappedModel, steps: StepTimeModel) -> BatchCost:
    """Return batch costs from step times, unless the file states batch times."""
    usual = usual_batch(model.spec, pool.accelerator, model.precision)
    stated = None if model.batch == usual else model.batch
    return BatchCost(steps, stated, compute_penalty().intercept_s
                     if pool.accelerator.confidential and stated is None else 0.0)


def _variation(fleet: Fleet, pool: DevicePool, seed: int) -> Variation:
    noise = fleet.run.step_time_noise
    rng = random_stream(seed, f"residency {pool.name}", 0) if noise else None
    return Variation(rng, noise)
