"""Resolves a well-formed document to a fleet of values."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from penstock.catalog import Catalog, model_from_hf_config
from penstock.core.disclosure import Disclosure
from penstock.core.errors import InputError
from penstock.core.money import per_million
from penstock.core.request import AUTO
from penstock.core.slo import ServiceClass, Slo
from penstock.core.units import GIB
from penstock.fleet.adapter_costs import slot_bytes
from penstock.fleet.adapters import adapter_problems, resolve_adapters
from penstock.fleet.attestation import resolve_pool_evidence, resolve_rules, windows
from penstock.fleet.disaggregation import disaggregation_problems, resolve_disaggregation
from penstock.fleet.document import FleetDocument
from penstock.fleet.document_scaling import BudgetSection, FaultsSection, ObserveSection
from penstock.fleet.energy import energy_problems, resolve_carbon, resolve_power
from penstock.fleet.engine import resolve_engine, usual_schedule
from penstock.fleet.fields import Named
from penstock.fleet.files import FileFinder
from penstock.fleet.gateway import resolve_gateway
from penstock.fleet.groups import Resources, resolve_replicas, resolve_schedule, resolve_sizing
from penstock.fleet.kubernetes import resolve_usual_kubernetes, with_usual_kubernetes
from penstock.fleet.multiplexing import resolve_multiplexing
from penstock.fleet.prices import resolve_basis, resolve_price
from penstock.fleet.problems import PlacedError, Problem
from penstock.fleet.references import catalog_model
from penstock.fleet.scaler_file import stated_scaler
from penstock.fleet.scaling_budget import budget_problems
from penstock.fleet.speculation import drafted_kv_tokens
from penstock.fleet.traffic import longest_prompt, resolve_traffic
from penstock.fleet.values import (
    AcceleratorPool,
    Choice,
    EngineOptions,
    Fleet,
    ModelChoice,
    PlanOptions,
    Policies,
    ReplicaGroup,
    RunOptions,
    ScalingOptions,
    TrafficSpec,
)
from penstock.fleet.values_faults import Blackout, FaultOptions
from penstock.fleet.values_observe import PrometheusOptions
from penstock.perf.memory import kv_capacity_tokens
from penstock.policy.scale.protocol import Budget


def resolve(document: FleetDocument, name: str, catalog: Catalog, files: FileFinder) -> Fleet:
    """Return the fleet. The document's references must be valid. Raises PlacedError for other
    problems."""
    engine = resolve_engine(document, files)
    have = Resources(_pools(document, catalog, files), _models(document, catalog, files), engine,
                     files, catalog, tuple(one.name for one in document.service_classes))
    kubernetes = resolve_usual_kubernetes(document.kubernetes, have.pools, have.models)
    replicas = with_usual_kubernetes(resolve_replicas(document, have), kubernetes)
    fleet = Fleet(
        name=document.name or name, accelerators=tuple(have.pools.values()),
        models=tuple(have.models.values()), service_classes=_classes(document),
        traffic=resolve_traffic(document, have), replicas=replicas,
        sizing=resolve_sizing(document, have), plan=_plan(document),
        policies=_policies(document, engine),
        engine=engine, run=RunOptions(**document.run.given()),
        catalog=document.catalog and files.find(document.catalog, ("catalog",)),
        gateway=resolve_gateway(document.gateway, have.models, files),
        attestation=resolve_rules(document.attestation, files),
        disclosure=Disclosure(**document.disclosure.given()),
        multiplexing=resolve_multiplexing(document.multiplexing, have, replicas),
        price_basis=resolve_basis(document, catalog),
        scaling=_scaling(document, files), kubernetes=kubernetes,
        disaggregation=resolve_disaggregation(document.disaggregation))
    for problem in (*disaggregation_problems(fleet), *energy_problems(fleet),
                    *adapter_problems(fleet), *_tier_problems(fleet), *_prompt_problems(fleet),
                    *budget_problems(fleet)):
        raise PlacedError(*problem)
    return fleet


def _pools(document: FleetDocument, catalog: Catalog,
           files: FileFinder) -> dict[str, AcceleratorPool]:
    """Return pools by their name in the file, which may be an alias."""
    pools, basis = {}, resolve_basis(document, catalog)
    for i, section in enumerate(document.accelerators):
        accelerator = catalog.accelerator(section.name)
        # The catalog says whether a chip supports the mode; the file says whether it is on.
        accelerator = replace(accelerator, confidential=bool(section.confidential))
        price = resolve_price(("accelerators", i), section, accelerator, basis, catalog)
        pools[section.name] = AcceleratorPool(
            accelerator, section.count, price.counted.per_hour,
            resolve_pool_evidence(("accelerators", i, "attestation"), section, files),
            windows(section.attestation), price.counted.basis, price.listed, price.ownership,
            resolve_power(("accelerators", i, "power"), section.power, accelerator))
    return pools


def _models(document: FleetDocument, catalog: Catalog, files: FileFinder) -> dict[str, ModelChoice]:
    """Return models by their name in the file, which may be an alias."""
    models = {}
    for i, section in enumerate(document.models):
        config = None
        if section.config is None:
            spec = catalog_model(catalog, section.name)
        else:
            config = files.find(section.config, ("models", i, "config"))
            try:
                spec = model_from_hf_config(config, section.name)
            except InputError as error:
                raise PlacedError(("models", i, "config"), str(error)) from None
        if section.max_context_tokens is not None:
            spec = replace(spec, max_context_tokens=section.max_context_tokens)
        price = None if section.price is None else per_million(
            section.price.input_per_million, section.price.output_per_million)
        models[section.name] = ModelChoice(spec, tuple(section.precisions), config, price,
                                           1.0 if section.quality is None else section.quality,
                                           resolve_adapters(("models", i), section, files))
    return models


def _classes(document: FleetDocument) -> tuple[ServiceClass, ...]:
    return tuple(ServiceClass(section.name, Slo(**section.slo.given()), section.priority,
                              section.weight, section.confidential, section.defer_s)
                 for section in document.service_classes)


def _policies(document: FleetDocument, engine: EngineOptions) -> Policies:
    policies = document.policies
    return Policies(
        resolve_schedule(("policies", "schedule"), usual_schedule(document), engine),
        _choice(policies.route or _usual_route(document)), _choice(policies.admit),
        _scaler(document), policies.explore)


def _usual_route(document: FleetDocument) -> str:
    """Return the default router: joint choice where models or real engines differ, else
    least_loaded, which is cheaper to simulate and as good where all replicas serve every
    request."""
    open_model = any(entry.model == AUTO for entry in document.traffic)
    live = any(replica.endpoints for replica in document.replicas or ())
    return "joint" if open_model or live else "least_loaded"


def _plan(document: FleetDocument) -> PlanOptions:
    if document.plan is None:
        return PlanOptions()
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                             for key, value in document.plan.given().items()}
    return PlanOptions(**given)


def _scaler(document: FleetDocument) -> Choice:
    """Return the scale policy. A name alone has the settings that the section scaling states."""
    found = _choice(stated_scaler(document))
    if found.options or document.scaling is None:
        return found
    return Choice(found.name, (document.scaling.settings or {}).get(found.name, {}))


def _scaling(document: FleetDocument, files: FileFinder) -> ScalingOptions:
    given = {} if document.scaling is None else document.scaling.given()
    given.pop("settings", None)  # of policies, which state theirs
    given.pop("start", None)  # of replicas, which have its parts
    budget: BudgetSection | None = given.pop("budget", None)
    if budget is not None:
        given["budget"] = Budget(budget.cost_per_hour, budget.power_w)
    observe: ObserveSection | None = given.pop("observe", None)
    if observe is not None:
        given["observe"] = PrometheusOptions(**observe.given())
    given["carbon"] = resolve_carbon(given.pop("carbon", None), files)
    section: FaultsSection | None = given.pop("faults", None)
    if section is None:
        return ScalingOptions(**given)
    return ScalingOptions(**given, faults=FaultOptions(
        section.failed_start_share, section.failures_per_hour,
        tuple(Blackout(one.from_s, one.for_s) for one in section.blackouts),
        tuple(section.controller_restarts_s)))


def _choice(section: str | Named) -> Choice:
    if isinstance(section, str):
        return Choice(section)
    return Choice(section.name, section.__pydantic_extra__)


def _prompt_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield prompts longer than the model's context or a replica's KV cache, as far as lengths are
    known."""
    for i, spec in enumerate(fleet.traffic):
        longest = longest_prompt(spec.lengths)
        if longest is None:
            continue
        path = ("traffic", i)
        context = fleet.longest_context_tokens(spec.model)
        if longest > context:
            yield Problem(path, f"prompts of up to {longest:,} tokens are longer than the context "
                                f"of {spec.model}, {context:,} (models[].max_context_tokens sets "
                                "another)")
        for group in _stated_groups(fleet):
            tokens = kv_tokens(fleet, group)
            if _serves(group, spec) and longest > tokens:
                yield Problem(path, f"prompts of up to {longest:,} tokens are longer than the KV "
                                    f"cache of {spec.model} on {group.accelerator.name}, "
                                    f"{tokens:,} tokens")


def _tier_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield tiers below the KV cache that have no room for one block."""
    for group in _stated_groups(fleet):
        engine = fleet.engine_of(group)
        block_bytes = group.model.kv_bytes_per_token(group.kv_precision) * engine.block_tokens
        for place, tier in enumerate(engine.kv_tiers):
            if tier.gib * GIB < block_bytes:
                yield Problem(("engine", "kv_tiers", place, "gib"),
                              f"{tier.gib:g} has no room for a block of {group.model.name}: "
                              f"expected at least {block_bytes / GIB:.3g}, "
                              f"{engine.block_tokens} tokens")


def _stated_groups(fleet: Fleet) -> tuple[ReplicaGroup, ...]:
    """Return the replicas that the file states, and the kinds whose number is to be found."""
    return (*fleet.replicas, *(fleet.sizing.groups if fleet.sizing.stated else ()))


def _serves(group: ReplicaGroup, spec: TrafficSpec) -> bool:
    classes = group.service_classes
    return spec.model in (group.model.name, AUTO) and (
        classes is None or not spec.mix or any(name in classes for name in spec.mix))


def kv_tokens(fleet: Fleet, group: ReplicaGroup) -> int:
    """Return the tokens of one replica's KV cache: those that the file states, or as many as memory
    allows."""
    engine = fleet.engine_of(group)
    if engine.kv_tokens is not None:
        return engine.kv_tokens
    if group.speculation is not None:
        return drafted_kv_tokens(group, engine)
    return kv_capacity_tokens(group.model, group.accelerator, group.parallelism, group.precision,
                              group.kv_precision, memory_fraction=engine.memory_fraction,
                              block_tokens=engine.block_tokens,
                              adapter_bytes=slot_bytes(group.model, group.parallelism, group.lora)
                              ).tokens
