"""Conversion of a fleet to plain data in the file's form, with every default written out."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from penstock.core.disclosure import USUAL
from penstock.core.money import Price, in_millions
from penstock.fleet.adapters import adapters_section, lora_section, traffic_adapters_section
from penstock.fleet.attestation import evidence_section, pool_evidence_section, rules_section
from penstock.fleet.disaggregation import disaggregation_section
from penstock.fleet.energy import carbon_section, power_section
from penstock.fleet.gateway import gateway_section
from penstock.fleet.kubernetes import kubernetes_section, usual_kubernetes_section
from penstock.fleet.marked_yaml import is_text
from penstock.fleet.multiplexing import multiplexing_section
from penstock.fleet.prices import price_section
from penstock.fleet.speculation import speculation_section
from penstock.fleet.starts import start_section
from penstock.fleet.stock import STOCK
from penstock.fleet.values import (
    Choice,
    EngineOptions,
    Fleet,
    ReplicaGroup,
    ScalingOptions,
    Sizing,
    TrafficSpec,
)
from penstock.fleet.values_faults import NO_FAULTS, Spot
from penstock.fleet.values_traffic import AgentSessions, ClientFiles, TraceFile
from penstock.perf.memory import ONE_ACCELERATOR
from penstock.policy.route.roles import BOTH
from penstock.policy.schedule.options import SchedulerOptions
from penstock.registry.make import schedule_options
from penstock.workload.lengths import (
    Fixed,
    LengthDistribution,
    LognormalMixture,
    Marginal,
    QuantileTable,
)

if TYPE_CHECKING:
    from yaml import SafeDumper, ScalarNode


def resolved(fleet: Fleet) -> dict[str, Any]:
    """Return the fleet as the data of a fleet file, which parses back to an equal fleet."""
    engine = fleet.engine
    document: dict[str, Any] = _without_none({
        "name": fleet.name,
        "catalog": fleet.catalog,
        "price_basis": fleet.price_basis,
        "accelerators": [
            {"name": pool.accelerator.name, "count": pool.count,
             **price_section(pool), "power": power_section(pool),
             "confidential": pool.accelerator.confidential,
             "attestation": pool_evidence_section(pool.attestation, pool.simulated)}
            for pool in fleet.accelerators],
        "models": [
            {"name": model.spec.name, "precisions": list(model.precisions),
             "max_context_tokens": model.spec.max_context_tokens, "config": model.config,
             "quality": None if model.quality == 1.0 else model.quality,
             "price": model.price and _price(model.price),
             "adapters": adapters_section(model.adapters)}
            for model in fleet.models],
        "service_classes": [asdict(service_class) for service_class in fleet.service_classes],
        "traffic": [_traffic(spec) for spec in fleet.traffic],
        "replicas": [_group(group, engine, "count", "service_classes")
                     for group in fleet.replicas] or None,
        "kubernetes": usual_kubernetes_section(fleet.kubernetes),
        "scaling": _scaling(fleet.scaling) if fleet.scales or fleet.scaling.carbon else None,
        "disaggregation": disaggregation_section(fleet.disaggregation),
        "multiplexing": multiplexing_section(fleet.multiplexing),
        "sizing": _sizing(fleet.sizing, engine) if fleet.sizing.stated else None,
        "plan": {key: list(value) or None if isinstance(value, tuple) else value
                 for key, value in asdict(fleet.plan).items()},
        "policies": {"schedule": _schedule(fleet.policies.schedule, engine),
                     "route": _choice(fleet.policies.route),
                     "explore": fleet.policies.explore or None,
                     "admit": _choice(fleet.policies.admit),
                     "scale": _choice(fleet.policies.scale)},
        "engine": {**asdict(engine),
                   "kv_tiers": [asdict(tier) for tier in engine.kv_tiers] or None},
        "run": asdict(fleet.run),
        "gateway": gateway_section(fleet.gateway),
        "attestation": rules_section(fleet.attestation),
        "disclosure": None if fleet.disclosure == USUAL else asdict(fleet.disclosure),
    })
    return document


def _price(price: Price) -> dict[str, float]:
    return {"input_per_million": in_millions(price.input_per_token),
            "output_per_million": in_millions(price.output_per_token)}


def _sizing(sizing: Sizing, engine: EngineOptions) -> dict[str, Any]:
    return {"groups": [_group(group, engine, "min_replicas", "classes")
                       for group in sizing.groups] or None,
            "max_replicas": sizing.max_replicas}


def to_yaml(fleet: Fleet) -> str:
    """``resolved`` as YAML text."""
    return yaml_text(resolved(fleet))


def yaml_text(data: Any) -> str:
    """Return plain data as YAML text, which readers of YAML 1.1 and 1.2 take alike."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    Dumper.add_representer(str, _quoted_if_ambiguous)
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=96)


def _quoted_if_ambiguous(dumper: "SafeDumper", text: str) -> "ScalarNode":
    # PyYAML follows YAML 1.1, where 1e6 is text; the fleet file's reader follows 1.2, where it is a
    # number.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text,
                                   style=None if is_text(text) else "'")


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return [_without_none(inner) for inner in value] if isinstance(value, list) else value


def _traffic(spec: TrafficSpec) -> dict[str, Any]:
    section: dict[str, Any] = {
        "name": spec.name, "model": spec.model, "mix": dict(spec.mix) or None,
        "tenants": dict(spec.tenants) or None, "rate_per_s": spec.rate_per_s,
        "num_requests": spec.num_requests, "duration_s": spec.duration_s,
        "start_s": spec.start_s, "max_tokens": spec.max_tokens,
        "adapters": traffic_adapters_section(spec.adapters)}
    arrivals = _choice(spec.arrivals) if spec.arrivals is not None else "own"
    lengths = spec.lengths
    if isinstance(lengths, TraceFile):
        section["trace"] = {"file": lengths.path, "format": lengths.format, "arrivals": arrivals,
                            "scale": lengths.scale, "shuffle": lengths.shuffle,
                            "columns": dict(lengths.columns.names) or None,
                            "clock": lengths.columns.clock}
        return section
    if isinstance(lengths, ClientFiles):
        section["clients"] = {"set": lengths.name, "folder": lengths.folder,
                              "from_s": lengths.from_s}
        return section
    if isinstance(lengths, AgentSessions):
        section["agents"] = asdict(lengths)
        return section
    section["arrivals"] = arrivals
    section["lengths"] = lengths if isinstance(lengths, str) else _distribution(lengths)
    return section


def _distribution(lengths: LengthDistribution) -> dict[str, Any]:
    return {"prompt": _marginal(lengths.prompt), "output": _marginal(lengths.output),
            "rho": lengths.rho}


def _marginal(marginal: Marginal) -> dict[str, Any]:
    if isinstance(marginal, Fixed):
        return {"fixed": marginal.tokens}
    assert isinstance(marginal, QuantileTable | LognormalMixture), "the file has no other forms"
    return {key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(marginal).items()}


def _group(group: ReplicaGroup, engine: EngineOptions, count: str, classes: str) -> dict[str, Any]:
    return {
        "model": group.model.name, "accelerator": group.accelerator.name, count: group.count,
        "parallelism": asdict(group.parallelism), "precision": group.precision,
        "kv_precision": group.kv_precision, classes: _listed(group.service_classes),
        "lora": lora_section(group.lora),
        "step_time": group.step_time, "endpoints": list(group.endpoints) or None,
        **({"min_replicas": group.min_replicas, "max_replicas": group.max_replicas,
            "start_s": group.start_s,
            "start": start_section(group.start), "spot": _spot(group.spot), "engine": group.engine,
            "version": group.setup and group.setup.version,
            "kv_events": list(group.kv_events) or None,
            "kv_replay": list(group.kv_replay) or None,
            "min_prompt_tokens": group.min_prompt_tokens,
            "bootstrap_ports": list(group.bootstrap_ports) or None,
            "served_as": group.served_as, "role": None if group.role == BOTH else group.role,
            "kubernetes": kubernetes_section(group.kubernetes),
            "attestation": evidence_section(group.attestation)} if count == "count" else {}),
        "schedule": None if group.schedule is None else _schedule(group.schedule, engine),
        "speculation": speculation_section(group.speculation)}


def _scaling(options: ScalingOptions) -> dict[str, Any]:
    found = asdict(options)
    faults = found.pop("faults")
    if options.hold_until == "hold_s":
        del found["hold_until"]
    found["carbon"] = carbon_section(options.carbon)
    if options.objective == "cost":
        del found["objective"]
    if options.faults != NO_FAULTS:
        found["faults"] = {key: list(value) if isinstance(value, tuple) else value
                           for key, value in faults.items()}
    return found


def _spot(spot: Spot | None) -> dict[str, Any] | None:
    return None if spot is None else _without_none(asdict(spot))


def replicas_section(fleet: Fleet) -> list[dict[str, Any]]:
    """Return the fleet's ``replicas`` as its file states them, without defaults."""
    found = []
    for group in fleet.replicas:
        section = _without_none(_group(group, fleet.engine, "count", "service_classes"))
        if group.engine == "auto":
            del section["engine"]
        if group.parallelism == ONE_ACCELERATOR:
            del section["parallelism"]
        found.append(section)
    return found


def _listed(names: Iterable[str] | None) -> list[str] | None:
    return None if names is None else list(names)


def _choice(choice: Choice) -> str | dict[str, Any]:
    return {"name": choice.name, **choice.options} if choice.options else choice.name


def _schedule(options: SchedulerOptions, engine: EngineOptions) -> dict[str, Any]:
    """Return the policy's name, with the settings that differ from it."""
    if options.policy == STOCK:
        return {"name": STOCK, **({} if options.adapter_wait_s is None else
                                  {"adapter_wait_s": options.adapter_wait_s})}
    preset = schedule_options(options.policy)
    changed = {field.name: getattr(options, field.name) for field in fields(SchedulerOptions)
               if getattr(options, field.name) != getattr(preset, field.name)}
    if engine.max_num_seqs is not None:  # else the engine's limit would replace the preset's
        changed["max_num_seqs"] = options.max_num_seqs
    changed.pop("settings", None)
    return {"name": options.policy, **changed, **dict(options.settings)}
