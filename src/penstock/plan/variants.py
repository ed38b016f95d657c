"""Variants: the kinds of replica that a plan may start for a model, and why others are left out."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from penstock.core.attestation import attestation_violation
from penstock.core.errors import InputError
from penstock.core.hardware import Parallelism
from penstock.fleet.adapter_costs import usual_lora
from penstock.fleet.capacity import step_tokens
from penstock.fleet.groups import equipped
from penstock.fleet.replica_factory import step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import AcceleratorPool, Fleet, ModelChoice, ReplicaGroup
from penstock.fleet.values_attestation import ASSUMED, NO_EVIDENCE
from penstock.policy.route.roles import BOTH


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of replica. ``group`` has a count of 1. Cost and list power are those of all
    accelerators of the replica; ``kv_tokens`` is the size of its KV cache."""

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


def variants_of(fleet: Fleet, model: ModelChoice, longest_tokens: int,
                running: Iterable[ReplicaGroup] = (), *, confidential: bool = False
                ) -> tuple[list[Variant], list[LeftOut]]:
    """The possible combinations of accelerator, parallelism, precisions and step budget.

    A variant must hold its weights and a request of ``longest_tokens``. Where requests are
    ``confidential``, it must be in confidential mode, and is assumed to be attested once it runs.
    Step times and schedules that the fleet file states for a replica of the same kind are used.
    Groups that are ``running`` are considered whatever the plan's options are.
    """
    groups: dict[str, ReplicaGroup] = {}
    now = [replace(group, count=1, service_classes=None, endpoints=(), role=BOTH,
                   min_prompt_tokens=None)
           for group in running]
    for pool in fleet.accelerators:
        for group in (*_groups(fleet, pool, model),
                      *(g for g in now if g.accelerator.name == pool.accelerator.name)):
            groups.setdefault(variant_name(group), _proposed(group))
    found: list[Variant] = []
    left_out: list[LeftOut] = []
    for name, group in groups.items():
        try:
            found.append(_variant(fleet, name, group, longest_tokens, confidential=confidential))
        except InputError as error:
            left_out.append(LeftOut(name, str(error)))
    return found, left_out


def _proposed(group: ReplicaGroup) -> ReplicaGroup:
    """The group as a proposal: attestation is assumed, whatever such replicas have now."""
    return replace(group, attestation=ASSUMED if group.accelerator.confidential else NO_EVIDENCE)


def _variant(fleet: Fleet, name: str, group: ReplicaGroup, longest_tokens: int, *,
             confidential: bool) -> Variant:
    """The variant of a group. Raises InputError with the reason why the group is not possible."""
    found = attestation_violation(group.confidentiality, 0.0) if confidential else None
    if found is not None:
        raise InputError(f"{found}, and some of the requests are confidential")
    pool = fleet.pool(group.accelerator.name)
    each, spread = group.num_accelerators, group.parallelism
    for what, value, most, why in (
            ("tensor", spread.tensor, pool.accelerator.max_per_node, "accelerators of a node"),
            ("pipeline", spread.pipeline, group.model.num_layers, "layers of the model")):
        if value > most:
            raise InputError(f"{what} {value} is more than the {most} {why}")
    why = group.model.indivisible(spread.tensor)
    if why:
        raise InputError(why)
    if pool.count is not None and each > pool.count:
        raise InputError(f"a replica needs {each} {pool.accelerator.name}; the fleet has "
                         f"{pool.count}")
    step_time(group)  # kernel tables may lack the kind
    tokens = kv_tokens(fleet, group)
    longest = longest_request_tokens(fleet, group, tokens)
    if longest < longest_tokens:
        raise InputError(f"a request of {longest_tokens:,} tokens is longer than the KV cache "
                         f"takes, {longest:,}")
    return Variant(name, group, each * pool.price_per_hour, each * pool.accelerator.power_w,
                   tokens)


def longest_request_tokens(fleet: Fleet, group: ReplicaGroup, tokens: int) -> int:
    """The longest request, prompt and most output, that a KV cache of ``tokens`` admits: whole
    blocks, without those that the scheduler keeps free."""
    block_tokens = fleet.engine_of(group).block_tokens
    blocks = tokens // block_tokens
    return (blocks - int(fleet.schedule_of(group).kv_watermark * blocks)) * block_tokens


def variant_name(group: ReplicaGroup) -> str:
    """The variant's name, such as ``h100-80gb-tp2-fp8``, and a role where it has one, such as
    ``prefill from 2048``, the fewest tokens of a prompt; default values are left out."""
    parts = [group.accelerator.name]
    if group.parallelism.tensor > 1:
        parts.append(f"tp{group.parallelism.tensor}")
    if group.parallelism.pipeline > 1:
        parts.append(f"pp{group.parallelism.pipeline}")
    if group.parallelism.data > 1:
        parts.append(f"dp{group.parallelism.data}")
    parts.append(group.precision)
    if group.kv_precision != "bf16":
        parts.append(f"kv-{group.kv_precision}")
    if group.schedule is not None:
        parts.append(f"step{step_tokens(group.schedule)}")
    name = "-".join(parts)
    if group.role != BOTH:
        name += f" {group.role}"
    return f"{name} from {group.min_prompt_tokens}" if group.min_prompt_tokens else name


def _groups(fleet: Fleet, pool: AcceleratorPool, model: ModelChoice) -> Iterator[ReplicaGroup]:
    for precision in model.precisions:
        for kv_precision in fleet.plan.kv_precisions:
            for pipeline in fleet.plan.pipeline:
                for tensor in _degrees(fleet, pool, model):
                    group = ReplicaGroup(model.spec, pool.accelerator, 1,
                                         Parallelism(tensor, pipeline), precision, kv_precision,
                                         lora=usual_lora(fleet, model))
                    for stated in _as_stated(fleet, group):
                        yield from _with_budgets(fleet, stated)


def _degrees(fleet: Fleet, pool: AcceleratorPool, model: ModelChoice) -> tuple[int, ...]:
    most = min(pool.accelerator.max_per_node, model.spec.num_heads)
    return fleet.plan.tensor or tuple(2**power for power in range(most.bit_length()))


def _as_stated(fleet: Fleet, group: ReplicaGroup) -> list[ReplicaGroup]:
    """The group with the step times and schedules of the file's groups of the same kind, where the
    file has any."""
    stated = [replace(group, step_time=own.step_time, schedule=own.schedule, intake=own.intake,
                      setup=own.setup, speculation=own.speculation, lora=own.lora or group.lora)
              for own in (*fleet.replicas, *fleet.sizing.groups) if kind_of(own) == kind_of(group)]
    return stated or [equipped(group, fleet.engine)]


def kind_of(group: ReplicaGroup) -> tuple[str, str, Parallelism, str, str]:
    """A key that is the same for groups whose replicas are equal machines."""
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
