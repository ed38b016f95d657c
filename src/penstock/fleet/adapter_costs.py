"""Adapters of simulated and planned replicas: their room in memory, and their times."""

from dataclasses import replace

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import ModelSpec
from penstock.core.units import GB, to_ps
from penstock.fleet.document_adapters import LoraSection
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError
from penstock.fleet.values import Fleet, ModelChoice, ReplicaGroup
from penstock.fleet.values_adapters import Adapter, LoraOptions
from penstock.perf.adapters import AdapterTimes, adapter_bytes_per_accelerator, adapter_times
from penstock.perf.step_time.longer import longer
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.keep import Demand
from penstock.policy.schedule.adapters import AdapterCost, AdapterStore

_MOST_ASSUMED, _MOST_ASSUMED_IN_HOST = 8, 100


def resolve_lora(path: Path, section: LoraSection | None) -> LoraOptions | None:
    """Return a replica's room for adapters. Raises PlacedError."""
    if section is None:
        return None
    lora = LoraOptions(**section.given())
    if lora.max_cpu_loras is not None and lora.max_cpu_loras < lora.max_loras:
        raise PlacedError((*path, "lora", "max_cpu_loras"),
                          f"{lora.max_cpu_loras} is less than the {lora.max_loras} of max_loras")
    return lora


def slot_bytes(model: ModelSpec, parallelism: Parallelism, lora: LoraOptions | None) -> float:
    """Return the bytes that places for adapters take on the fullest accelerator: each as large as
    the highest rank needs, as engines allocate them at their start."""
    return 0.0 if lora is None else lora.max_loras * adapter_bytes_per_accelerator(
        model, parallelism, lora.max_rank)


def rank_of(adapter: Adapter, lora: LoraOptions) -> int:
    """Return the rank of an adapter, the replica's highest where it is not known."""
    return lora.max_rank if adapter.rank is None else adapter.rank


def taken_adapters(fleet: Fleet, model: str, lora: LoraOptions | None) -> frozenset[str]:
    """Return the adapters of a model that an engine with this room takes."""
    return frozenset() if lora is None else frozenset([
        one.name for one in adapters_of_model(fleet, model) if lora.takes(one)])


def adapters_of_model(fleet: Fleet, name: str) -> tuple[Adapter, ...]:
    """Return the adapters of a model, none for a model that is the router's choice."""
    return next((one.adapters for one in fleet.models if one.spec.name == name), ())


def _times(model: ModelSpec, accelerator: Accelerator, parallelism: Parallelism,
           lora: LoraOptions, rank: int) -> AdapterTimes:
    copy = None if lora.copy_gb_per_s is None else lora.copy_gb_per_s * GB
    return adapter_times(model, accelerator, parallelism, rank, lora.disk_gb_per_s * GB, copy)


def adapter_store(fleet: Fleet, model: ModelSpec, accelerator: Accelerator,
                  parallelism: Parallelism, lora: LoraOptions | None) -> AdapterStore | None:
    """Return the empty store of adapters of an engine of a model, None without room for them. An
    adapter that the fleet does not have counts with the highest rank."""
    if lora is None:
        return None
    adapters = adapters_of_model(fleet, model.name)
    ranks = {lora.max_rank, *(rank_of(one, lora) for one in adapters)}
    by_rank = {rank: _cost(_times(model, accelerator, parallelism, lora, rank)) for rank in ranks}
    costs = {name: by_rank[rank_of(one, lora)] for one in adapters
             for name in (one.name, one.served_name)}
    return AdapterStore(lora.max_loras, lora.most_loaded, to_ps(lora.step_overhead_s), costs,
                        by_rank[lora.max_rank], Demand() if lora.evict == "demand" else None)


def _cost(times: AdapterTimes) -> AdapterCost:
    return AdapterCost(to_ps(times.fetch_s), to_ps(times.copy_s), to_ps(times.read_s))


def with_adapters(fleet: Fleet, group: ReplicaGroup, model: StepTimeModel) -> StepTimeModel:
    """Return the step times of a group's replicas with all places for adapters in use, where
    traffic names adapters of their model."""
    lora = group.lora
    if lora is None or group.model.name not in adapted_models(fleet):
        return model
    read_s = _times(group.model, group.accelerator, group.parallelism, lora, lora.max_rank).read_s
    num = min(lora.max_loras, len(adapters_of_model(fleet, group.model.name)))
    return longer(model, lora.step_overhead_s + num * read_s)


def adapted_models(fleet: Fleet) -> frozenset[str]:
    """Return the models of which traffic may name adapters."""
    return frozenset(spec.model for spec in fleet.traffic if adapters_of_model(fleet, spec.model))


def usual_lora(fleet: Fleet, model: ModelChoice) -> LoraOptions | None:
    """Return the room for adapters of a planned replica: that of the file's replicas of its model,
    or an assumed one; None for a model without adapters."""
    if not model.adapters:
        return None
    stated = [lora for lora in (*rooms_of(fleet, model.spec.name), *(
        group.lora for group in fleet.sizing.groups if group.model.name == model.spec.name))
        if lora is not None]
    return stated[0] if stated else assumed_lora(model.adapters)


def rooms_of(fleet: Fleet, model: str) -> list[LoraOptions | None]:
    """Return the room for adapters of each group of a model's replicas and of the model in each
    pool of devices, None where that engine takes none."""
    return [*(group.lora for group in fleet.replicas if group.model.name == model),
            *(one.lora for pool in fleet.multiplexing for one in pool.models
              if one.spec.name == model)]


def assumed_lora(adapters: tuple[Adapter, ...]) -> LoraOptions | None:
    """Return the room that a plan assumes for adapters where the file states none, None without
    adapters."""
    if not adapters:
        return None
    ranks = [one.rank for one in adapters if one.rank is not None]
    return LoraOptions(min(_MOST_ASSUMED, len(adapters)),
                       min(_MOST_ASSUMED_IN_HOST, len(adapters)),
                       max(ranks, default=LoraOptions().max_rank))


def lora_assumptions(fleet: Fleet) -> list[str]:
    """Return what a run or a plan assumes of adapters that the file does not state, in a line for
    each model."""
    found = []
    for model in fleet.models:
        lora = usual_lora(fleet, model)
        if lora is None or model.spec.name not in adapted_models(fleet):
            continue
        unknown = [one for one in model.adapters if one.rank is None]
        says = [] if rooms_of(fleet, model.spec.name) else [
            f"at most {lora.max_loras} adapters in a batch and {lora.most_loaded} in host memory, "
            f"up to rank {lora.max_rank}"]
        if unknown:
            says.append(f"rank {lora.max_rank} for {len(unknown)} adapters without one")
        if lora.step_overhead_s == LoraOptions().step_overhead_s:
            says.append(f"{1000 * lora.step_overhead_s:g} ms more for a step with adapters "
                        "(Punica, arXiv 2310.18547)")
        if says:
            found.append(f"adapters of {model.spec.name}: {'; '.join(says)} (replicas[].lora sets "
                         "others)")
    return found


def without_room(group: ReplicaGroup, adapters: tuple[Adapter, ...]) -> ReplicaGroup:
    """Return a planned group, with an assumed room for adapters where it states none."""
    return group if group.lora is not None else replace(group, lora=assumed_lora(adapters))
