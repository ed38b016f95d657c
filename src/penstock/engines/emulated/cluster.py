"""A fleet of emulated engines in one process, each on a port of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from penstock import __version__
from penstock.core.errors import InputError
from penstock.engines.emulated.answers import Answers, answers
from penstock.engines.emulated.backend import EmulatedBackend
from penstock.engines.emulated.clock import EngineClock
from penstock.engines.emulated.engine import EmulatedEngine
from penstock.engines.emulated.kv_events import KvPublisher, KvSockets, kv_sockets
from penstock.engines.emulated.kv_loans import KvLoans
from penstock.engines.http import listening
from penstock.engines.server.loras import Loras
from penstock.engines.server.metrics import EngineMetrics
from penstock.engines.server.server import EngineServer, Service
from penstock.fleet.adapter_costs import adapter_store
from penstock.fleet.replica_factory import (
    belief_factor,
    journal_header,
    kv_cache,
    random_stream,
    step_noise,
    step_time,
    true_step_time,
)
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.journal.journal import Journal
from penstock.perf.step_time.calibration import biased
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.kv.shared import SharedKv
from penstock.registry.make import build_scheduler

_LAST_PORT = 65535
_SHUTDOWN_S = 2.0


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Options of an emulated cluster.

    ``port`` is the first replica's port, and the others use the next ones; with 0 each gets a free
    port. ``indexes`` are the replicas to serve, numbered in the fleet file's order; None means all.
    ``speed`` engine seconds pass per second. ``seed`` draws answers and noise. ``kv_events_port``
    is the first replica's port for the events of its KV cache, of which each replica takes two;
    None publishes none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    indexes: Sequence[int] | None = None
    speed: float = 1.0
    seed: int = 0
    journal_dir: Path | None = None
    kv_events_port: int | None = None


@dataclass(frozen=True, slots=True)
class EmulatedReplica:
    """One replica that listens at ``url``. ``kv_sockets`` are those of its KV events, None without
    any."""

    index: int
    url: str
    group: ReplicaGroup
    engine: EmulatedEngine
    server: EngineServer
    kv_sockets: KvSockets | None = None

    @property
    def name(self) -> str:
        """``replica-0`` and so on."""
        return f"replica-{self.index}"


@dataclass(frozen=True, slots=True)
class EmulatedCluster:
    """Replicas that all listen, and the tasks that run their engines."""

    replicas: tuple[EmulatedReplica, ...]
    tasks: "tuple[asyncio.Task[None], ...]"

    async def watch(self) -> None:
        """Wait until an engine fails, and raise its exception."""
        done, _ = await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def drain(self, patience_s: float) -> None:
        """Reject new requests and wait, at most ``patience_s``, until the present ones have
        ended."""
        for replica in self.replicas:
            replica.server.draining = True
        deadline_s = asyncio.get_running_loop().time() + patience_s
        while (any(replica.engine.num_live for replica in self.replicas)
               and asyncio.get_running_loop().time() < deadline_s):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def emulated_cluster(fleet: Fleet, options: EmulatorOptions = EmulatorOptions(),
                           on_bug: Callable[[str], None] = lambda _: None
                           ) -> AsyncIterator[EmulatedCluster]:
    """Yield the fleet's replicas, which listen until the context ends.

    ``on_bug`` gets the traceback of an error that the client did not cause. Raises InputError for a
    fleet without replicas, an unknown index and an unavailable port.
    """
    numbered = [group for group in fleet.replicas for _ in range(group.count)]
    indexes = range(len(numbered)) if options.indexes is None else options.indexes
    _check(fleet, options, indexes, len(numbered))
    clock = EngineClock(asyncio.get_running_loop(), options.speed)
    said = {model: answers(fleet, model, options.seed)
            for model in {numbered[index].model.name for index in indexes}}
    loans = None if fleet.disaggregation is None else KvLoans()
    async with AsyncExitStack() as stack:
        replicas = []
        for place, index in enumerate(indexes):
            group = numbered[index]
            sockets = await _kv_sockets(options, place, stack)
            engine, server = _replica(fleet, group, index, clock, said[group.model.name], options,
                                      on_bug, stack, sockets, loans)
            port = options.port + place if options.port else 0
            url = await stack.enter_async_context(
                listening(server.app(), options.host, port, _SHUTDOWN_S))
            replicas.append(EmulatedReplica(index, url, group, engine, server, sockets))
        tasks = tuple(asyncio.create_task(replica.engine.run()) for replica in replicas)
        stack.push_async_callback(_stop, tasks)
        yield EmulatedCluster(tuple(replicas), tasks)


def _check(fleet: Fleet, options: EmulatorOptions, indexes: Sequence[int], num: int) -> None:
    if not num:
        raise InputError(f"fleet {fleet.name} states no replicas; state them, or find their number "
                         "with `penstock plan`")
    if any(group.speculation is not None for group in fleet.replicas):
        raise InputError(f"fleet {fleet.name}: replicas: an emulated engine gives one token a "
                         "step; expected no speculation")
    if fleet.engine.kv_tiers:
        raise InputError(f"fleet {fleet.name}: engine.kv_tiers: an emulated engine has no tiers "
                         "below its KV cache; expected none")
    for index in indexes:
        if not 0 <= index < num:
            raise InputError(f"no replica {index}: fleet {fleet.name} has {num}, counted from 0")
    if options.port and options.port + len(indexes) - 1 > _LAST_PORT:
        raise InputError(f"{len(indexes)} replicas from port {options.port} on go beyond port "
                         f"{_LAST_PORT}; start lower, or with port 0")


def _replica(fleet: Fleet, group: ReplicaGroup, index: int, clock: EngineClock, said: Answers,
             options: EmulatorOptions, on_bug: Callable[[str], None],
             stack: AsyncExitStack, sockets: KvSockets | None, loans: KvLoans | None
             ) -> tuple[EmulatedEngine, EngineServer]:
    model, schedule = step_time(group), fleet.schedule_of(group)
    kv = kv_cache(fleet, group, kv_tokens(fleet, group))
    belief = belief_factor(fleet, group, options.seed)
    truth = true_step_time(fleet, model, random_stream(options.seed, "truth", index))
    adapters = adapter_store(fleet, group.model, group.accelerator, group.parallelism, group.lora)
    scheduler = build_scheduler(schedule, biased(model, belief), kv, adapters=adapters)
    metrics = EngineMetrics(group.model.name, speed=clock.speed)
    noise = step_noise(fleet, random_stream(options.seed, "step-time", index))
    publisher, stepped = _publisher(kv, sockets)
    engine = EmulatedEngine(scheduler, StepClock(truth, noise), clock, metrics,
                            _journal(fleet, group, index, belief, options.journal_dir, stack),
                            stepped, adapters)
    metrics.watch("vllm:num_requests_running", "Requests that hold KV.",
                  lambda: scheduler.num_running)
    metrics.watch("vllm:num_requests_waiting", "Requests that hold none.",
                  lambda: scheduler.num_waiting)
    metrics.watch("vllm:kv_cache_usage_perc", "KV in use, 0 to 1.",
                  lambda: scheduler.kv_used_tokens / scheduler.kv_total_tokens)
    metrics.watch("penstock:emulator_lag_seconds", "How late the end of a step was noticed.",
                  lambda: engine.lag_s / clock.speed)
    # No request may need more KV cache than the scheduler can ever allocate to it.
    usable = (kv.total_blocks - int(schedule.kv_watermark * kv.total_blocks)) * kv.block_tokens
    classes = group.service_classes or [one.name for one in fleet.service_classes]
    service = Service(
        group.model.name, min(group.model.max_context_tokens, usable), fleet.service_classes,
        fleet.service_class(classes[0]), f"penstock {__version__}")
    backend = EmulatedBackend(engine, said, fleet.engine.block_tokens
                              if fleet.engine.prefix_caching else 0, publisher, loans,
                              f"replica-{index}")
    loras = None
    if adapters is not None:
        loras = Loras(group.model.name, adapters)
        metrics.registry.register(loras)
    return engine, EngineServer(backend, service, metrics, on_bug, loras)


async def _kv_sockets(options: EmulatorOptions, place: int,
                      stack: AsyncExitStack) -> KvSockets | None:
    port = options.kv_events_port
    if port is None:
        return None
    return await stack.enter_async_context(kv_sockets(options.host, port and port + 2 * place))


def _publisher(kv: KvAllocator, sockets: KvSockets | None
               ) -> tuple[KvPublisher | None, Callable[[], None] | None]:
    """Return the publisher of a KV cache's blocks, and the function that has it publish."""
    if sockets is None or not isinstance(kv, SharedKv):
        return None, None
    changes: list[tuple[int, bool]] = []
    kv.changes = changes
    publisher = KvPublisher(kv.block_tokens, sockets.send)
    return publisher, partial(publisher.publish, changes)


def _journal(fleet: Fleet, group: ReplicaGroup, index: int, belief: float, folder: Path | None,
             stack: AsyncExitStack) -> Journal | None:
    if folder is None:
        return None
    stream = stack.enter_context((folder / f"journal-{index}.jsonl").open("wb"))
    return Journal(stream, journal_header(fleet, group, index, belief))


async def _stop(tasks: "Sequence[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
