"""Kinds of replica: missing values are chosen here, and impossible ones are reported."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.catalog import Catalog
from penstock.catalog.engines import engine_facts
from penstock.core.errors import InputError
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.request import AUTO
from penstock.fleet.adapter_costs import resolve_lora, slot_bytes, without_room
from penstock.fleet.attestation import confidential_models, resolve_evidence
from penstock.fleet.document import (
    FleetDocument,
    ReplicaSection,
    SizingGroupSection,
    VariantSection,
)
from penstock.fleet.document_schedule import ScheduleSection, named_stock
from penstock.fleet.engine import own_engine
from penstock.fleet.files import FileFinder
from penstock.fleet.kubernetes import resolve_kubernetes
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError, Problem
from penstock.fleet.speculation import resolve_speculation
from penstock.fleet.starts import resolve_start
from penstock.fleet.step_times import resolve_step_time
from penstock.fleet.stock import STOCK, base_engine, defaults_of, stock_intake
from penstock.fleet.values import (
    AcceleratorPool,
    EngineOptions,
    ModelChoice,
    ReplicaGroup,
    Sizing,
)
from penstock.fleet.values_adapters import LoraOptions
from penstock.fleet.values_attestation import ASSUMED, NO_EVIDENCE
from penstock.fleet.values_faults import Spot
from penstock.perf.memory import kv_capacity_tokens
from penstock.policy.schedule.options import SchedulerOptions
from penstock.registry.make import schedule_options
from penstock.registry.step_times import make_step_time

_BACKENDS = {"tensorrt-llm": "trtllm"}
"""Engines whose kernel tables have another name."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources for building groups, the folders of their files, and the service classes."""

    pools: Mapping[str, AcceleratorPool]
    models: Mapping[str, ModelChoice]
    engine: EngineOptions
    files: FileFinder
    catalog: Catalog
    classes: tuple[str, ...]


def resolve_replicas(document: FleetDocument, have: Resources) -> tuple[ReplicaGroup, ...]:
    """Return the replicas that run now."""
    groups = tuple(_replica_group(("replicas", i), section, document, have)
                   for i, section in enumerate(document.replicas or ()))
    for problem in pool_problems(groups, have.pools.values()):
        raise PlacedError(*problem)
    return groups


def resolve_sizing(document: FleetDocument, have: Resources) -> Sizing:
    """Return the groups to size with: those of the file, its variant, or one default group per
    model.

    A model for which no default replica fits has no default group; a plan may find another kind.
    """
    section, lacks = document.sizing, None
    max_replicas = section.max_replicas if section else Sizing().max_replicas
    if section and section.groups:
        groups = [_sizing_group(("sizing", "groups", i), group, document, have)
                  for i, group in enumerate(section.groups)]
    elif document.replicas and document.variant is None:
        groups = []
    elif document.variant:
        model = document.variant.model or next(iter(have.models))
        groups = [_proposed(("variant",), document.variant.model_copy(update={"model": model}),
                            None, document, have)]
    else:
        groups, lacks = _default_groups(document, have)
    num_least = sum(group.count for group in groups)
    if num_least > max_replicas:
        raise PlacedError(("sizing", "max_replicas"), f"{max_replicas} is fewer than the "
                          f"{num_least} that the groups have at least")
    return Sizing(tuple(groups), max_replicas,
                  stated=section is not None or document.variant is not None, lacks=lacks)


def _default_groups(document: FleetDocument,
                    have: Resources) -> tuple[list[ReplicaGroup], str | None]:
    """Return a default group for every model with traffic, and the reason why a model has none."""
    only = next(iter(have.models))
    groups, lacks = [], None
    swapped = document.multiplexed_models()
    for model in dict.fromkeys(entry.model or only for entry in document.traffic):
        if model in swapped or (model == AUTO and swapped):
            continue
        if model == AUTO:
            lacks = lacks or ("traffic: leaves the model to the router, so it is unknown how many "
                              "replicas each model needs; state replicas")
            continue
        section = VariantSection.model_construct(model=model)
        try:
            groups.append(_proposed(("accelerators",), section, None, document, have))
        except PlacedError as error:
            if document.sizing is not None:
                raise
            lacks = lacks or f"accelerators: {error.problem.text}"
    return groups, lacks


def _replica_group(path: Path, section: ReplicaSection, document: FleetDocument,
                   have: Resources) -> ReplicaGroup:
    try:
        setup = own_engine(section, document)
    except InputError as error:
        raise PlacedError((*path, "version"), str(error).removeprefix("version: ")) from None
    if setup is not None:
        have = replace(have, engine=setup)
        if section.schedule is None and "schedule" not in document.policies.model_fields_set:
            section = section.model_copy(update={"schedule": STOCK})
    group = replace(_group(path, section, have), setup=setup)
    if section.attestation is not None and not group.accelerator.confidential:
        raise PlacedError((*path, "attestation"), f"{group.accelerator.name} is not in "
                          "confidential mode (accelerators[].confidential)")
    urls = tuple(url.rstrip("/") for url in section.endpoints or ())
    if urls and len(urls) != section.count:
        raise PlacedError((*path, "endpoints"), f"{len(urls)} for {section.count} replicas; "
                                                "expected one for each")
    ports = section.bootstrap_ports
    if ports is not None and len(ports) != section.count:
        raise PlacedError((*path, "bootstrap_ports"), f"{len(ports)} for {section.count} replicas; "
                                                      "expected one for each")
    _check_kv_events(path, section, group)
    return replace(group, kv_events=tuple(section.kv_events or ()),
                   kv_replay=tuple(section.kv_replay or ()),
                   count=section.count, min_replicas=section.min_replicas,
                   max_replicas=section.max_replicas, start_s=section.start_s,
                   start=resolve_start(section, document, have.files, (*path, "start")),
                   spot=None if section.spot is None else Spot(**section.spot.given()),
                   kubernetes=resolve_kubernetes(section.kubernetes),
                   service_classes=_names(section.service_classes), role=section.role,
                   min_prompt_tokens=section.min_prompt_tokens,
                   endpoints=urls, served_as=section.served_as,
                   bootstrap_ports=tuple(section.bootstrap_ports or ()),
                   engine="auto" if urls and section.engine == "emulated" else section.engine,
                   attestation=resolve_evidence((*path, "attestation"), section, have.files,
                                                group.parallelism.num_accelerators))


def _check_kv_events(path: Path, section: ReplicaSection, group: ReplicaGroup) -> None:
    if section.kv_events and group.accelerator.confidential:
        raise PlacedError((*path, "kv_events"), "would tell the tokens of confidential prompts, "
                                                "unencrypted; expected none in confidential mode")
    if section.kv_replay and not section.kv_events:
        raise PlacedError((*path, "kv_replay"), "stands alone; expected kv_events beside it")
    for name, found in (("kv_events", section.kv_events), ("kv_replay", section.kv_replay)):
        if found is None:
            continue
        if len(found) != section.count and not (len(found) == 1 and "*" in found[0]):
            raise PlacedError((*path, name), f"{len(found)} for {section.count} replicas; expected "
                                             "one for each, or one with * in the place of the "
                                             "host")


def _sizing_group(path: Path, section: SizingGroupSection, document: FleetDocument,
                  have: Resources) -> ReplicaGroup:
    group = _proposed(path, section, section.classes, document, have)
    return replace(group, count=section.min_replicas, service_classes=_names(section.classes))


def _proposed(path: Path, section: VariantSection, classes: list[str] | None,
              document: FleetDocument, have: Resources) -> ReplicaGroup:
    """Return a group that does not run yet. Where its classes (None: all) have confidential
    traffic, it is on accelerators in confidential mode and assumed to be attested."""
    model = section.model or next(iter(have.models))
    if model in confidential_models(document, classes):
        pools = {name: pool for name, pool in have.pools.items() if pool.accelerator.confidential}
        if section.accelerator is not None and section.accelerator not in pools:
            raise PlacedError((*path, "accelerator"),
                              f"{section.accelerator} is not in confidential mode, which traffic "
                              f"of {model} demands")
        have = replace(have, pools=pools)
    adapters = have.models[section.model or next(iter(have.models))].adapters
    group = without_room(_group(path, section, have), adapters)
    return replace(group, attestation=ASSUMED if group.accelerator.confidential else NO_EVIDENCE)


def _names(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _group(path: Path, section: VariantSection, have: Resources) -> ReplicaGroup:
    model = have.models[section.model or next(iter(have.models))]
    precision = section.precision or model.precisions[0]
    candidates = ([have.pools[section.accelerator]] if section.accelerator
                  else list(have.pools.values()))
    parallelism = None
    if section.parallelism is not None:
        parallelism = Parallelism(**section.parallelism.model_dump())
    lora = resolve_lora(path, section.lora)
    accelerator, spread = _first_fit(path, model.spec, candidates, parallelism, precision,
                                     section.kv_precision, have.engine, lora)
    group = ReplicaGroup(
        model.spec, accelerator, 1, spread, precision, section.kv_precision, lora=lora,
        step_time=resolve_step_time(section.step_time, have.files, (*path, "step_time")),
        schedule=None if section.schedule is None else
        resolve_schedule((*path, "schedule"), section.schedule, have.engine),
        speculation=resolve_speculation((*path, "speculation"), section.speculation, model.spec,
                                        have.models, have.catalog, have.classes))
    group = equipped(group, have.engine)
    _check_step_time((*path, "step_time") if section.step_time is not None or
                     have.engine.step_time is None else ("engine", "step_time"), group)
    return group


def equipped(group: ReplicaGroup, engine: EngineOptions) -> ReplicaGroup:
    """Return the group as the fleet's engine runs it: with its intake and its kernels, and with its
    step times, stated or measured, where the group states none."""
    step_time = engine.step_time if group.step_time is None else group.step_time
    if engine.name is None:
        return replace(group, step_time=step_time)
    defaults = defaults_of(engine.name, engine.version, group.accelerator)
    intake = stock_intake(defaults)
    if isinstance(step_time, Mapping) and step_time.get("kind") == "kernels":
        # An engine that plans a step ahead hides its host behind the step before.
        hidden = {"host_overhead_s": 0.0} if intake.plans_ahead else {}
        step_time = {"backend": _BACKENDS.get(defaults.engine, defaults.engine), **hidden,
                     **step_time}
    if step_time is None:
        step_time = {"kind": "measured", "engine": defaults.engine, "version": defaults.version,
                     **({"rates": engine.rates} if engine.rates else {})}
    return replace(group, intake=intake, step_time=step_time)


def _first_fit(path: Path, model: ModelSpec, candidates: list[AcceleratorPool],
               parallelism: Parallelism | None, precision: str, kv_precision: str,
               engine: EngineOptions, lora: LoraOptions | None
               ) -> tuple[Accelerator, Parallelism]:
    """Return the first accelerator, with its least tensor parallelism, that holds the weights, the
    places for adapters and one KV block."""
    failure: InputError | None = None
    for pool in candidates:
        accelerator = pool.accelerator
        for spread in [parallelism] if parallelism else _tensor_degrees(pool, model):
            _check_spread(path, model, accelerator, spread)
            try:
                kv_capacity_tokens(model, accelerator, spread, precision, kv_precision,
                                   memory_fraction=engine.memory_fraction,
                                   block_tokens=engine.block_tokens,
                                   adapter_bytes=slot_bytes(model, spread, lora))
            except InputError as error:
                failure = failure or error
            else:
                return accelerator, spread
    raise PlacedError(path, str(failure))


def _tensor_degrees(pool: AcceleratorPool, model: ModelSpec) -> Iterator[Parallelism]:
    most = min(pool.accelerator.max_per_node, pool.count or pool.accelerator.max_per_node,
               model.num_heads)
    tensor = 1
    while tensor <= max(most, 1):
        if not model.indivisible(tensor):
            yield Parallelism(tensor)
        tensor *= 2


def _check_spread(path: Path, model: ModelSpec, accelerator: Accelerator,
                  spread: Parallelism) -> None:
    problem = spread_problem(model, accelerator, spread)
    if problem is not None:
        raise PlacedError((*path, "parallelism", problem[0]), problem[1])


def spread_problem(model: ModelSpec, accelerator: Accelerator,
                   spread: Parallelism) -> tuple[str, str] | None:
    """Return why a replica cannot be spread so, after the degree that is wrong, None where it
    can."""
    for name, value, most, why in (
            ("tensor", spread.tensor, accelerator.max_per_node,
             f"{accelerator.name} accelerators share a node"),
            ("pipeline", spread.pipeline, model.num_layers, f"layers of {model.name}")):
        if value > most:
            return name, f"{value} is more than the {most} {why}"
    if spread.data > 1 and not model.num_moe_layers:
        return "data", (f"{model.name} has no experts, so only whole replicas can share its load; "
                        "expected count")
    ranks = spread.tensor * spread.data
    if spread.expert > 1 and (not model.num_moe_layers or ranks % spread.expert):
        return "expert", (f"{spread.expert}; expected a divisor of the {ranks} ranks, of a model "
                          "with experts")
    why = model.indivisible(spread.tensor)
    return ("tensor", why) if why else None


def pool_problems(groups: tuple[ReplicaGroup, ...],
                  pools: Iterable[AcceleratorPool]) -> Iterator[Problem]:
    """Yield groups that together need more accelerators than there are."""
    counts = {pool.accelerator.name: pool.count for pool in pools}
    needed: dict[str, int] = {}
    for i, group in enumerate(groups):
        name = group.accelerator.name
        needed[name] = needed.get(name, 0) + group.num_accelerators
        count = counts[name]
        if count is not None and needed[name] > count:
            yield Problem(("replicas", i), f"the replicas up to here need {needed[name]} {name}; "
                                           f"the fleet has {count}")


def resolve_schedule(path: Path, choice: str | ScheduleSection,
                     engine: EngineOptions) -> SchedulerOptions:
    """Return the named scheduling policy with the file's settings and the engine's sequence
    limit."""
    changes: dict[str, Any] = {}
    if engine.max_num_seqs is not None:
        changes["max_num_seqs"] = engine.max_num_seqs
    name = choice
    if named_stock(choice):
        wait_s = choice.adapter_wait_s if isinstance(choice, ScheduleSection) else None
        _check_adapter_wait((*path, "adapter_wait_s"), wait_s, engine)
        return SchedulerOptions(STOCK, adapter_wait_s=wait_s)
    if isinstance(choice, ScheduleSection):
        name = choice.name
        changes |= choice.given()
        del changes["name"]
    try:
        return schedule_options(str(name), **changes)
    except InputError as error:
        raise PlacedError(path, str(error)) from None


def _check_adapter_wait(path: Path, wait_s: float | None, engine: EngineOptions) -> None:
    """Raise PlacedError for a bound of waits that the engine's own scheduler cannot keep."""
    if wait_s is None or engine.name is None:
        return
    if not engine_facts(base_engine(engine.name), engine.version).drains_adapters:
        raise PlacedError(path, f"{engine.name} lets a request wait for its adapter's place "
                                "without bound; expected no adapter_wait_s, or sglang 0.5.12 or "
                                "later")
    if not wait_s:
        raise PlacedError(path, f"0 means no bound to {engine.name}; expected more than 0")


def _check_step_time(path: Path, group: ReplicaGroup) -> None:
    if group.step_time is None:
        return
    try:
        make_step_time(group.step_time, group.model, group.accelerator, group.parallelism,
                       group.precision, group.kv_precision)
    except InputError as error:
        raise PlacedError(path, str(error).removeprefix("step_time: ")) from None
