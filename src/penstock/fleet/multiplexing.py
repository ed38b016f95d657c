"""The section ``multiplexing`` of a fleet file: its problems, and conversion to values and back."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from penstock.core.errors import nearest
from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.units import GB, GIB
from penstock.fleet.adapter_costs import resolve_lora, slot_bytes
from penstock.fleet.files import FileFinder
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError, Problem, quote
from penstock.fleet.values_multiplexing import DevicePool, Host, SwapEngine, SwappedModel
from penstock.policy.multiplex.values import BatchTime
from penstock.registry.engines import ENGINES, engine_can, engines_for, needs_of
from penstock.registry.policies import MULTIPLEXERS
from penstock.registry.step_times import make_step_time

if TYPE_CHECKING:
    from penstock.fleet.document import FleetDocument
    from penstock.fleet.document_multiplexing import (
        DevicePoolSection,
        HostedModelSection,
        SwapEngineSection,
    )
    from penstock.fleet.groups import Resources
    from penstock.fleet.values import ReplicaGroup

USUAL_PROMPT_TOKENS, USUAL_OUTPUT_TOKENS = 256, 128
"""The request of which batches consist where the file states no batch time."""

_OWN = ("endpoints", "file", "command", "sleep_level", "environment", "kv_tokens", "threads")


def problems_of_pools_alone(document: "FleetDocument", models: Iterable[str]) -> Iterator[Problem]:
    """Yield what the file states for replicas though all ``models`` share devices."""
    pooled = {one.model for pool in document.multiplexing or () for one in pool.models}
    if document.replicas or not pooled >= {*models}:
        return
    for key in ("kv_tokens", "kv_tiers"):
        if getattr(document.engine, key):
            yield Problem(("engine", key), "counts for replicas, and all models share devices, "
                          "where multiplexing[].models[].size_gib has room for keys and values")
    if document.disaggregation is not None:
        yield Problem(("disaggregation",), "counts for replicas with a role, and all models share "
                                           "devices")


def multiplexing_problems(pools: "list[DevicePoolSection] | None",
                       elsewhere: Iterable[str]) -> Iterator[Problem]:
    """Yield problems between a section's own parts; models ``elsewhere`` have replicas with
    endpoints."""
    elsewhere = set(elsewhere)
    if pools == []:
        yield Problem(("multiplexing",), "expected at least one entry, found an empty list")
    names: set[str] = set()
    for i, pool in enumerate(pools or ()):
        path: Path = ("multiplexing", i)
        if pool.name is not None and pool.name in names:
            yield Problem((*path, "name"), f"{quote(pool.name)} appears twice")
        names.add(pool.name or "")
        yield from _strategy_problems(path, pool)
        seen: set[str] = set()
        for j, one in enumerate(pool.models):
            place: Path = (*path, "models", j)
            if one.model in seen:
                yield Problem((*place, "model"), f"{quote(one.model)} appears twice")
            if one.model in elsewhere:
                yield Problem((*place, "model"), f"{quote(one.model)} has replicas with endpoints, "
                                                 "too; expected it in one place")
            seen.add(one.model)
            if one.lora is not None and pool.batching != "continuous":
                yield Problem((*place, "lora"), "static batches have no adapters; expected it with "
                                                "batching: continuous")
            if one.engine is not None:
                yield from _engine_problems((*place, "engine"), one.engine, pool.count)
        if (shares := sum(one.min_share for one in pool.models)) > 1.0 + 1e-9:
            yield Problem((*path, "models"), f"their min_share come to {shares:.4g}; expected at "
                                             "most 1 in all")


def _strategy_problems(path: Path, pool: "DevicePoolSection") -> Iterator[Problem]:
    """Yield violations of the policy's limits: SINCERE's strategies have one lock on one device,
    held by one batch at a time."""
    name = pool.policy if isinstance(pool.policy, str) else pool.policy.name
    traits = MULTIPLEXERS.entry(name).traits if MULTIPLEXERS.knows(name) else ()
    if "static" in traits and pool.batching != "static":
        yield Problem((*path, "policy"), f"{name} runs one batch at a time; expected it with "
                                         "batching: static")
    if "one_device" in traits and pool.count > 1:
        yield Problem((*path, "policy"), f"{name} decides for one device, found {pool.count}; "
                                         "expected a pool for each, with models of its own")


def _engine_problems(path: Path, engine: "SwapEngineSection", count: int) -> Iterator[Problem]:
    if not engine_can(engine.kind, "multiplex"):
        yield Problem((*path, "kind"), f"found {quote(engine.kind)}"
                                       f"{nearest(engine.kind[:200], engines_for('multiplex'))}")
        return
    needed, may_have = needs_of(engine.kind), _may_have(engine.kind)
    if not getattr(engine, needed):
        yield Problem(path, f"{engine.kind} needs {needed}")
    for key in _OWN:
        if key != needed and key not in may_have and \
                key in engine.model_fields_set and getattr(engine, key) is not None:
            yield Problem((*path, key), f"{engine.kind} takes no {key}")
    if needed == "endpoints" and engine.endpoints:
        yield from _endpoint_problems((*path, "endpoints"), engine.endpoints, count)
    if engine.command is not None and not any("{port}" in part for part in engine.command):
        yield Problem((*path, "command"), "has no {port}; expected it where the port belongs that "
                                          "the engine is to listen on")


def _may_have(kind: str) -> set[str]:
    """Return the optional keys of an engine of that kind."""
    own = set(ENGINES.entry(kind).settings)
    return own | {"environment"} if needs_of(kind) == "command" else own


def _endpoint_problems(path: Path, urls: list[str], count: int) -> Iterator[Problem]:
    if len(urls) != count:
        yield Problem(path, f"{len(urls)} for {count} devices; expected one for each")
    for place, url in enumerate(urls):
        if url.rstrip("/") in [other.rstrip("/") for other in urls[:place]]:
            yield Problem((*path, place), f"{quote(url)} appears twice; expected a server for each "
                                          "device")


def resolve_multiplexing(pools: "list[DevicePoolSection] | None", have: "Resources",
                      replicas: "Iterable[ReplicaGroup]" = ()) -> tuple[DevicePool, ...]:
    """Return the pools beside these replicas. Raises PlacedError."""
    found: list[DevicePool] = []
    by_replicas: dict[str, int] = {}
    for group in replicas:
        kind = group.accelerator.name
        by_replicas[kind] = by_replicas.get(kind, 0) + group.num_accelerators
    for i, section in enumerate(pools or ()):
        pool = have.pools[section.accelerator or next(iter(have.pools))]
        name = section.name or pool.accelerator.name
        if any(name == other.name for other in found):
            raise PlacedError(("multiplexing", i), f"is called {name} like another; give it a name")
        taken = sum(other.count for other in found if other.accelerator is pool.accelerator)
        taken += by_replicas.get(pool.accelerator.name, 0)
        if pool.count is not None and section.count + taken > pool.count:
            others = f" beside {taken} of other pools" if taken else ""
            if by_replicas.get(pool.accelerator.name):
                others = f" beside {taken} of replicas and other pools"
            raise PlacedError(("multiplexing", i, "count"), f"{section.count}{others} is more than "
                              f"the {pool.count} {pool.accelerator.name} that the fleet has")
        memory = section.memory_gib
        num_bytes = (int(pool.accelerator.memory_bytes * have.engine.memory_fraction)
                     if memory is None else round(memory * GIB))
        if num_bytes > pool.accelerator.memory_bytes:
            raise PlacedError(("multiplexing", i, "memory_gib"), f"{memory:g} is more than the "
                              f"{pool.accelerator.memory_bytes / GIB:g} GiB of "
                              f"{pool.accelerator.name}")
        policy = section.policy
        plain = isinstance(policy, str)
        found.append(DevicePool(
            name, pool.accelerator, num_bytes,
            tuple(_model(("multiplexing", i, "models", j), one, have, pool.accelerator, num_bytes)
                  for j, one in enumerate(section.models)),
            section.count, section.max_residents, section.batching == "continuous",
            policy if isinstance(policy, str) else policy.name,
            {} if plain else dict(policy.__pydantic_extra__),  # type: ignore[union-attr]
            section.load_timeout_s, section.load_attempts, section.set_apart_s,
            section.max_wait_s, section.max_queue, pool.attestation,
            _host(section, pool.accelerator), pool.simulated))
    return tuple(found)


def _host(section: "DevicePoolSection", accelerator: Accelerator) -> Host | None:
    if (host := section.host) is None:
        return None
    copy = accelerator.pcie_bytes_per_s if host.copy_gb_per_s is None else host.copy_gb_per_s * GB
    return Host(round(host.memory_gib * GIB), host.disk_gb_per_s * GB, copy, host.fixed_s,
                host.overlap)


def _model(path: Path, section: "HostedModelSection", have: "Resources", accelerator: Accelerator,
           memory_bytes: int) -> SwappedModel:
    choice = have.models[section.model]
    precision = section.precision or choice.precisions[0]
    if precision not in choice.precisions:
        raise PlacedError((*path, "precision"), f"{quote(precision)} is not among the model's "
                                                f"precisions: {', '.join(choice.precisions)}")
    lora = resolve_lora(path, section.lora)
    least = choice.spec.weight_bytes(precision) + round(
        slot_bytes(choice.spec, Parallelism(), lora))
    size = least if section.size_gib is None else round(section.size_gib * GIB)
    each = round(section.request_gib * GIB)
    if size + each > memory_bytes:
        raise PlacedError(path, f"{section.model} needs {(size + each) / GIB:.4g} GiB with one "
                                f"request; a device of the pool has {memory_bytes / GIB:.4g}")
    batch = section.batch
    return SwappedModel(
        choice.spec, precision, size,
        usual_batch(choice.spec, accelerator, precision) if batch is None
        else BatchTime(batch.fixed_s, batch.per_request_s),
        section.load_s or size / accelerator.pcie_bytes_per_s, each, section.max_batch,
        section.e2e_s, section.min_share,
        None if section.engine is None else _engine((*path, "engine"), section.engine, have.files),
        lora)


def usual_batch(model: ModelSpec, accelerator: Accelerator, precision: str) -> BatchTime:
    """Return the time of a static batch of typical requests by the roofline: prompts one after the
    other, then steps of all requests, which get slightly longer with each request."""
    seconds = make_step_time(None, model, accelerator, precision=precision).seconds
    prompt, output = USUAL_PROMPT_TOKENS, USUAL_OUTPUT_TOKENS
    context = prompt + output // 2
    one_s, two_s = (seconds(0, 0.0, num, num * context) for num in (1, 2))
    added_s = two_s - one_s
    prefill_s = seconds(prompt, prompt * prompt / 2, 0, 0)
    return BatchTime(output * (one_s - added_s), prefill_s + output * added_s)


def _engine(path: Path, section: "SwapEngineSection", files: FileFinder) -> SwapEngine:
    return SwapEngine(
        section.kind, tuple(url.rstrip("/") for url in section.endpoints or ()),
        section.served_as, section.sleep_level,
        section.file and files.find(section.file, (*path, "file")), tuple(section.command or ()),
        section.environment, section.kv_tokens, section.threads)


def multiplexing_section(pools: Iterable[DevicePool]) -> list[dict[str, Any]] | None:
    """Return the section of a file for these pools, None without pools."""
    return [_pool_section(pool) for pool in pools] or None


def _pool_section(pool: DevicePool) -> dict[str, Any]:
    policy = {"name": pool.policy, **pool.settings} if pool.settings else pool.policy
    return {"name": pool.name, "accelerator": pool.accelerator.name, "count": pool.count,
            "memory_gib": pool.memory_bytes / GIB, "max_residents": pool.max_residents,
            "batching": "continuous" if pool.continuous else "static", "policy": policy,
            "load_timeout_s": pool.load_timeout_s, "load_attempts": pool.load_attempts,
            "set_apart_s": pool.set_apart_s, "max_wait_s": pool.max_wait_s,
            "max_queue": pool.max_queue,
            "host": pool.host and _host_section(pool.host),
            "models": [_model_section(model) for model in pool.models]}


def _host_section(host: Host) -> dict[str, Any]:
    return {"memory_gib": host.memory_bytes / GIB, "disk_gb_per_s": host.disk_bytes_per_s / GB,
            "copy_gb_per_s": host.copy_bytes_per_s / GB, "fixed_s": host.fixed_s,
            "overlap": host.overlap}


def _model_section(model: SwappedModel) -> dict[str, Any]:
    return {"model": model.spec.name, "precision": model.precision,
            "size_gib": model.size_bytes / GIB, "request_gib": model.request_bytes / GIB,
            "max_batch": model.max_batch, "load_s": model.load_s, "e2e_s": model.e2e_s,
            "batch": {"fixed_s": model.batch.fixed_s, "per_request_s": model.batch.per_request_s},
            "min_share": model.min_share, "lora": model.lora and asdict(model.lora),
            "engine": model.engine and _engine_section(model.engine)}


def _engine_section(engine: SwapEngine) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": engine.kind, "served_as": engine.served_as}
    for key in (needs_of(engine.kind), *sorted(_may_have(engine.kind))):
        value = getattr(engine, key)
        found[key] = list(value) if isinstance(value, tuple) else value
    return found
