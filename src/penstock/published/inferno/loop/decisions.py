"""Decisions of a recorded run, recomputed from the same observations and parameters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from penstock.perf.queueing.parameters import IterationTimes, QueueSpec, RequestSize
from penstock.published.inferno.loop.cycles import Cycle, LoggedServer, State
from penstock.published.inferno.loop.runs import RunSettings
from penstock.published.inferno.queueing.concurrency import optimal_concurrency
from penstock.published.inferno.queueing.rates import OneChunkTimes
from penstock.published.inferno.solve import settings_of, solve
from penstock.published.inferno.values import (
    Accelerator,
    Allocation,
    OptimizerOptions,
    Profile,
    Server,
    ServiceClass,
    System,
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One decision: replicas as recorded and as recomputed. Batches are 0 where the run did not
    search them."""

    cycle: int
    server: str
    recorded: int
    recomputed: int
    recorded_batch: int = 0
    recomputed_batch: int = 0

    @property
    def equal(self) -> bool:
        """Whether replicas and searched batch are the same."""
        return (self.recorded, self.recorded_batch) == (self.recomputed, self.recomputed_batch)


def compare(cycles: Sequence[Cycle], settings: RunSettings) -> Iterator[Compared]:
    """Yield every decision of a log beside the one that the optimizer makes here."""
    before: dict[str, LoggedServer] = {}
    for cycle in cycles:
        batches = {one.name: _batch(one, cycle, settings) for one in cycle.servers}
        plan = solve(_system(cycle, before, settings, batches), settings_of(_options(settings)))
        for one in cycle.servers:
            found = plan.allocations.get(one.name, Allocation())
            searched = settings.search_limit is not None
            yield Compared(cycle.number, one.name, one.num_replicas, found.num_replicas,
                           one.max_batch if searched else 0, batches[one.name] if searched else 0)
            before[one.name] = one


def step_times(state: State, *, one_chunk: bool) -> IterationTimes:
    """Return parameters for the analysis of a version."""
    return OneChunkTimes(*state) if one_chunk else IterationTimes(*state)


def batch_of(one: LoggedServer, settings: RunSettings) -> int:
    """Return the batch of a server's replicas where the log does not have it."""
    if not settings.at_tokens:
        return settings.max_batch
    tokens = settings.max_batch * settings.at_tokens
    return max(1, tokens // one.load.output_tokens) if one.load.output_tokens else 1


def _batch(one: LoggedServer, cycle: Cycle, settings: RunSettings) -> int:
    """Return the batch for which the cycle sized a server: searched, recorded or documented."""
    if settings.search_limit is None:
        return one.max_batch or batch_of(one, settings)
    times = step_times(cycle.states[one.model, one.accelerator], one_chunk=settings.one_chunk)
    size = RequestSize(one.load.input_tokens, max(1, one.load.output_tokens))
    queue = QueueSpec(times, size, settings.search_limit, settings.max_queue)
    return optimal_concurrency(queue, one.targets, settings.search_limit).max_batch


def _options(settings: RunSettings) -> OptimizerOptions:
    return OptimizerOptions(unlimited=settings.unlimited, saturation_policy="PriorityExhaustive")


def _system(cycle: Cycle, before: Mapping[str, LoggedServer], settings: RunSettings,
            batches: Mapping[str, int]) -> System:
    """Return a cycle as a bundle. Each server keeps its accelerator and has a class of its own,
    in the order of the log."""
    accelerators, profiles, classes, servers = {}, {}, {}, {}
    for priority, one in enumerate(cycle.servers, 1):
        name = one.accelerator
        cost = one.cost_cents_per_hour / max(one.num_replicas, 1)
        accelerators[name] = Accelerator(name, name, 1, cost)
        times = step_times(cycle.states[one.model, name], one_chunk=settings.one_chunk)
        profiles[one.model, name] = Profile(one.model, name, 1, batches[one.name], 0, times)
        classes[one.name] = ServiceClass(one.name, priority, {one.model: one.targets})
        present = before.get(one.name, one).num_replicas
        current = Allocation(name, present, batches[one.name], cost * present)
        servers[one.name] = Server(one.name, one.name, one.model, one.load, current, True, 1,
                                   batches[one.name], settings.max_queue)
    return System("v2", accelerators, profiles, classes, servers, cycle.capacity,
                  _options(settings))
