"""Every kind of replica that a plan may start for a model, and why others may not be."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import AcceleratorPool, Fleet, ModelChoice, ReplicaGroup
from penstock.policy.schedule.options import SchedulerOptions


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of replica. ``group`` has a count of 1; cost and power are of all its accelerators
    at list power; ``kv_tokens`` is the size of its KV cache."""

    name: str
    group: ReplicaGroup
    cost_per_hour: float
    power_w: float
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A kind of replica that cannot serve the model, with the reason."""

    name: str
    reason: str


def variants_of(fleet: Fleet, model: ModelChoice,
                longest_tokens: int) -> tuple[list[Variant], list[LeftOut]]:
    """Accelerators times parallelism, precisions and step budgets, each where it is possible.

    A variant must hold its weights and a request of ``longest_tokens``. Step times and schedules
    that the fleet file states for a replica of the same kind are taken over.
    """
    found: list[Variant] = []
    left_out: list[LeftOut] = []
    for pool in fleet.accelerators:
        for group in _groups(fleet, pool, model):
            name = variant_name(group)
            try:
                tokens = kv_tokens(fleet, group)
            except InputError as error:
                left_out.append(LeftOut(name, str(error)))
                continue
            if tokens < longest_tokens:
                left_out.append(LeftOut(name, f"a request of {longest_tokens:,} tokens is longer "
                                              f"than the KV cache of {tokens:,}"))
                continue
            cards = group.parallelism.num_accelerators
            found.append(Variant(name, group, cards * pool.price_per_hour,
                                 cards * pool.accelerator.power_w, tokens))
    return found, left_out


def variant_name(group: ReplicaGroup) -> str:
    """For example ``h100-80gb-tp2-fp8``; parts at their usual value are left out."""
    parts = [group.accelerator.name]
    if group.parallelism.tensor > 1:
        parts.append(f"tp{group.parallelism.tensor}")
    if group.parallelism.pipeline > 1:
        parts.append(f"pp{group.parallelism.pipeline}")
    parts.append(group.precision)
    if group.kv_precision != "bf16":
        parts.append(f"kv-{group.kv_precision}")
    if group.schedule is not None:
        parts.append(f"step{step_tokens(group.schedule)}")
    return "-".join(parts)


def step_tokens(schedule: SchedulerOptions) -> int:
    """Most tokens that a step of this policy holds."""
    return schedule.chunk_tokens if schedule.chunking == "fixed" else schedule.max_step_tokens


def _groups(fleet: Fleet, pool: AcceleratorPool, model: ModelChoice) -> Iterator[ReplicaGroup]:
    for precision in model.precisions:
        for kv_precision in fleet.plan.kv_precisions:
            for pipeline in fleet.plan.pipeline:
                for tensor in _degrees(fleet, pool, model):
                    group = ReplicaGroup(model.spec, pool.accelerator, 1,
                                         Parallelism(tensor, pipeline), precision, kv_precision)
                    if pool.count is not None and group.num_accelerators > pool.count:
                        continue
                    if pipeline <= model.spec.num_layers:
                        yield from _with_budgets(fleet, _as_stated(fleet, group))


def _degrees(fleet: Fleet, pool: AcceleratorPool, model: ModelChoice) -> list[int]:
    most = min(pool.accelerator.max_per_node, model.spec.num_heads)
    if fleet.plan.tensor:
        return [tensor for tensor in fleet.plan.tensor if tensor <= most]
    return [2**power for power in range(most.bit_length())]


def _as_stated(fleet: Fleet, group: ReplicaGroup) -> ReplicaGroup:
    """With the step time and the schedule of the file's own group of this kind, if it has one."""
    for stated in (*fleet.replicas, *fleet.sizing.groups):
        if kind_of(stated) == kind_of(group):
            return replace(group, step_time=stated.step_time, schedule=stated.schedule)
    return group


def kind_of(group: ReplicaGroup) -> tuple[str, str, Parallelism, str, str]:
    """What makes two groups' replicas equal machines."""
    return (group.model.name, group.accelerator.name, group.parallelism, group.precision,
            group.kv_precision)


def _with_budgets(fleet: Fleet, group: ReplicaGroup) -> Iterator[ReplicaGroup]:
    schedule = fleet.schedule_of(group)
    if not fleet.plan.step_tokens:
        yield group
    for budget in fleet.plan.step_tokens:
        if schedule.chunking == "fixed":
            yield replace(group, schedule=replace(schedule, chunk_tokens=budget))
        else:
            yield replace(group, schedule=replace(schedule, max_step_tokens=budget))
