"""Adapters of a fleet file: from the file itself, a list in another file, or a folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from penstock.core.errors import InputError
from penstock.fleet.adapter_costs import rooms_of
from penstock.fleet.document import ModelSection
from penstock.fleet.document_adapters import AdapterSection, TrafficAdaptersSection
from penstock.fleet.files import FileFinder, read_text
from penstock.fleet.marked_yaml import Path, read_yaml
from penstock.fleet.problems import PlacedError, Problem, quote, shape_problems
from penstock.fleet.references import unknown
from penstock.fleet.values import Fleet, ModelChoice
from penstock.fleet.values_adapters import Adapter, LoraOptions, TrafficAdapters
from penstock.workload.adapters import by_popularity, with_base

_CONFIG = "adapter_config.json"
_MOST_ADAPTERS = 10_000


def resolve_adapters(path: Path, section: ModelSection, files: FileFinder) -> tuple[Adapter, ...]:
    """Return the adapters of a model. Raises PlacedError."""
    found = [_adapter(one) for one in section.adapters or ()]
    if section.adapters_from is not None:
        place = (*path, "adapters_from")
        source = FilePath(files.find(section.adapters_from, place))
        try:
            more = _in_folder(source) if source.is_dir() else _in_file(source)
        except (InputError, OSError) as error:
            raise PlacedError(place, str(error)) from None
        if not more:
            raise PlacedError(place, f"{source} has no adapters; expected folders with "
                                     f"{_CONFIG} in each")
        found += more
    return tuple(found)


def resolve_traffic_adapters(path: Path, section: TrafficAdaptersSection | None,
                             model: ModelChoice | None) -> TrafficAdapters | None:
    """Return the adapters that requests of a model name; ``model`` is None where the router chooses
    it. Raises PlacedError."""
    if section is None:
        return None
    known = [] if model is None else [one.name for one in model.adapters]
    if not known:
        raise PlacedError(path, "the model is the router's choice; expected a model with adapters"
                          if model is None else
                          f"{model.spec.name} has none; expected models[].adapters")
    if section.weights is None:
        return TrafficAdapters(None, section.zipf or 0.0, section.base_share)
    if section.zipf is not None:
        raise PlacedError((*path, "zipf"), "stands beside weights; keep one of them")
    for name in section.weights:
        if name not in known:
            raise PlacedError(*unknown((*path, "weights", name), "adapter", name, known))
    if not any(section.weights.values()):
        raise PlacedError((*path, "weights"), "all are 0; expected a positive weight")
    return TrafficAdapters(section.weights, 0.0, section.base_share)


def traffic_adapters_section(adapters: TrafficAdapters | None) -> dict[str, Any] | None:
    """Return the adapters of a traffic entry as a fleet file has them."""
    if adapters is None:
        return None
    drawn = {"zipf": adapters.zipf} if adapters.weights is None else {
        "weights": dict(adapters.weights)}
    return {**drawn, "base_share": adapters.base_share}


def adapter_shares(adapters: TrafficAdapters | None, model: ModelChoice | None
                   ) -> dict[str, float]:
    """Return the share of each adapter among a traffic entry's requests, and of the model itself
    under the empty name; empty where the entry states none."""
    if adapters is None or model is None:
        return {}
    weights = adapters.weights if adapters.weights is not None else by_popularity(
        [one.name for one in model.adapters], adapters.zipf)
    return with_base(weights, adapters.base_share)


def adapter_problems(fleet: Fleet) -> Iterator[Problem]:
    """Yield names that stand twice, unknown service classes, and adapters that no replica can
    serve."""
    taken = {model.spec.name: "a model" for model in fleet.models}
    taken |= dict.fromkeys(fleet.gateway.aliases, "an alias")
    classes = {one.name for one in fleet.service_classes}
    for i, model in enumerate(fleet.models):
        rooms = rooms_of(fleet, model.spec.name)
        ranks = [lora.max_rank for lora in rooms if lora is not None]
        for j, adapter in enumerate(model.adapters):
            place: Path = ("models", i, "adapters", j)
            if adapter.name in taken:
                yield Problem((*place, "name"), f"{quote(adapter.name)} is already the name of "
                                                f"{taken[adapter.name]}")
            taken[adapter.name] = "an adapter"
            if adapter.service_class is not None and adapter.service_class not in classes:
                yield unknown((*place, "service_class"), "service class",
                              adapter.service_class, classes)
            if rooms and not ranks:
                yield Problem(place, f"no engine of {model.spec.name} takes adapters; expected "
                                     "replicas[].lora or multiplexing[].models[].lora")
                return
            if ranks and adapter.rank is not None and adapter.rank > max(ranks):
                yield Problem((*place, "rank"), f"{adapter.rank} is more than the {max(ranks)} of "
                                                "any engine (lora.max_rank)")
    known = taken.keys()
    for i, tenant in enumerate(fleet.gateway.tenants):
        for j, name in enumerate(tenant.models or ()):
            if name not in known:
                yield unknown(("gateway", "tenants", i, "models", j), "model", name, known)


def adapters_section(adapters: tuple[Adapter, ...]) -> list[dict[str, Any]] | None:
    """Return the adapters as a fleet file has them."""
    return [asdict(one) for one in adapters] or None


def lora_section(lora: LoraOptions | None) -> dict[str, Any] | None:
    """Return the room for adapters as a fleet file has it."""
    return None if lora is None else asdict(lora)


def _adapter(section: AdapterSection) -> Adapter:
    return Adapter(**section.given())


def _in_folder(folder: FilePath) -> list[Adapter]:
    """Return an adapter for each folder within, with the rank that its configuration states."""
    found: list[Adapter] = []
    for config in sorted(folder.glob(f"*/{_CONFIG}"))[:_MOST_ADAPTERS]:
        try:
            document = json.loads(read_text(config, _CONFIG))
        except ValueError as error:
            raise InputError(f"{config}: not JSON ({error})") from None
        rank = document.get("r") if isinstance(document, Mapping) else None
        found.append(Adapter(config.parent.name, str(config.parent),
                             rank=rank if type(rank) is int and rank > 0 else None))
    return found


def _in_file(file: FilePath) -> list[Adapter]:
    """Return the adapters of a YAML list."""
    document = read_yaml(read_text(file, "a list of adapters"), str(file)).data
    try:
        sections = TypeAdapter(list[AdapterSection]).validate_python(document)
    except ValidationError as error:
        problem = shape_problems(error, {})[0]
        place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in problem.path)
        raise InputError(f"{file}: {place}: {problem.text}") from None
    return [_adapter(one) for one in sections[:_MOST_ADAPTERS]]
