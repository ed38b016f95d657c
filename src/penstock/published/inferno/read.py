"""A bundle from a folder with one JSON file per part, from one JSON file, or from a document."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson

from penstock.core.errors import InputError
from penstock.perf.queueing.parameters import DecodePrefillTimes, IterationTimes
from penstock.published.inferno.fields import Fields
from penstock.published.inferno.values import (
    DEFAULT_CLASS,
    LOWEST_PRIORITY,
    POLICIES,
    Accelerator,
    Allocation,
    Generation,
    Load,
    OptimizerOptions,
    Policy,
    Profile,
    Server,
    ServiceClass,
    System,
    Targets,
)

# Part of the bundle -> its file, and whether a folder may do without it.
FILES = {"acceleratorData": ("accelerator-data.json", False),
         "modelData": ("model-data.json", False),
         "serviceClassData": ("serviceclass-data.json", False),
         "serverData": ("server-data.json", False),
         "optimizerData": ("optimizer-data.json", True),
         "capacityData": ("capacity-data.json", True)}

Value = TypeVar("Value")
Key = TypeVar("Key", str, tuple[str, str])


def read_bundle(path: Path) -> System:
    """Read a folder of part files or one file ``{"system": {...}}``.

    Raises InputError for what cannot be read, is no JSON or has the wrong shape.
    """
    if path.is_dir():
        return system_from(_read_folder(path))
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; expected an Inferno bundle")
    top = Fields(read_json(path), str(path))
    top.require("system")
    return system_from(_parts(top.part("system")))


def parse_bundle(document: Any, where: str) -> System:
    """A bundle from parsed JSON ``{"system": {...}}``; ``where`` begins every error."""
    top = Fields(document, where)
    top.require("system")
    return system_from(_parts(top.part("system")))


def read_json(path: Path) -> Any:
    """A JSON file. Raises InputError when it cannot be read or is no JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: is not JSON ({error})") from error


def _read_folder(folder: Path) -> dict[str, Fields]:
    parts: dict[str, Fields] = {}
    for part, (name, optional) in FILES.items():
        path = folder / name
        if path.is_file():
            parts[part] = Fields(read_json(path), str(path))
        elif not optional:
            raise InputError(f"{folder}: {name} is missing; an Inferno bundle has "
                             f"{', '.join(name for name, _ in FILES.values())}")
    return parts


def _parts(system: Fields) -> dict[str, Fields]:
    return {part: system.part(part) for part in FILES if part in system}


def system_from(parts: Mapping[str, Fields]) -> System:
    """The values of a bundle's parts; a part that is absent is empty.

    Raises InputError for wrong types, negative sizes, and names that are there twice.
    """
    def items(part: str, name: str) -> list[Fields]:
        if part not in parts:
            return []
        parts[part].require(name)
        return parts[part].parts(name)

    models = items("modelData", "models")
    generation = _generation(models)
    options = parts["optimizerData"].part("optimizer") if "optimizerData" in parts else None
    return System(
        generation,
        _by_name(items("acceleratorData", "accelerators"), _accelerator, lambda a: a.name),
        _by_name(models, lambda fields: _profile(fields, generation),
                 lambda p: (p.model, p.accelerator)),
        _by_name(items("serviceClassData", "serviceClasses"), _service_class, lambda c: c.name),
        _by_name(items("serverData", "servers"), _server, lambda s: s.name),
        _capacity(items("capacityData", "count")) if "capacityData" in parts else None,
        _options(options) if options else OptimizerOptions())


def _by_name(items: Iterable[Fields], make: Callable[[Fields], Value],
             key: Callable[[Value], Key]) -> dict[Key, Value]:
    found: dict[Key, Value] = {}
    for fields in items:
        value = make(fields)
        name = key(value)
        if name in found:
            label = name if isinstance(name, str) else " on ".join(name)
            raise InputError(f"{fields.where}: {label!r} is there twice; expected one of each name")
        found[name] = value
    return found


def _generation(models: list[Fields]) -> Generation:
    new = next((fields for fields in models if "perfParms" in fields), None)
    old = next((fields for fields in models
                if "decodeParms" in fields or "prefillParms" in fields), None)
    if new and old:
        raise InputError(f"{old.where}: decodeParms and prefillParms, but {new.where} has "
                         "perfParms; expected one schema in a bundle")
    return "v1" if old else "v2"


def _accelerator(fields: Fields) -> Accelerator:
    multiplicity = fields.count("multiplicity", 1, least=1)
    name = fields.text("name")
    return Accelerator(name, fields.text("type", name), multiplicity, fields.number("cost"))


def _profile(fields: Fields, generation: Generation) -> Profile:
    # A count of 0 or less is one unit.
    return Profile(fields.text("name"), fields.text("acc"),
                   max(1, fields.count("accCount", 1, negative=True)),
                   fields.count("maxBatchSize"), fields.count("atTokens"),
                   _times(fields, generation))


def _times(fields: Fields, generation: Generation) -> DecodePrefillTimes | IterationTimes:
    if generation == "v2":
        parms = fields.part("perfParms")
        return IterationTimes(parms.number("alpha"), parms.number("beta"), parms.number("gamma"))
    decode, prefill = fields.part("decodeParms"), fields.part("prefillParms")
    return DecodePrefillTimes(decode.number("alpha"), decode.number("beta"),
                              prefill.number("gamma"), prefill.number("delta"))


def _service_class(fields: Fields) -> ServiceClass:
    priority = stated = fields.count("priority", 0, negative=True)
    if not 1 <= priority <= LOWEST_PRIORITY:
        priority = LOWEST_PRIORITY
    targets: dict[str, Targets] = {}
    for target in fields.parts("modelTargets"):
        model = target.text("model")
        if model in targets:
            raise InputError(f"{target.where}: {model!r} is there twice; expected one of each name")
        targets[model] = Targets(*(target.number(name) or None
                                   for name in ("slo-ttft", "slo-itl", "slo-tps")))
    return ServiceClass(fields.text("name"), priority, targets,
                        stated if "priority" in fields else None)


def _server(fields: Fields) -> Server:
    current = fields.part("currentAlloc")
    load = current.part("load")
    return Server(
        fields.text("name"), fields.text("class", DEFAULT_CLASS) or DEFAULT_CLASS,
        fields.text("model"),
        # A negative load is a reason why this server has no candidate, not a fault of the file.
        Load(load.number("arrivalRate", negative=True), load.count("avgInTokens", negative=True),
             load.count("avgOutTokens", negative=True), load.number("throughput", negative=True)),
        Allocation(current.text("accelerator", ""), current.count("numReplicas"),
                   current.count("maxBatch"), current.number("cost"),
                   itl_ms=current.number("itlAverage"), ttft_ms=current.number("ttftAverage")),
        fields.flag("keepAccelerator"), fields.count("minNumReplicas"),
        fields.count("maxBatchSize"), fields.count("maxQueueSize"))


def _capacity(items: list[Fields]) -> dict[str, int]:
    pools = _by_name(items, lambda fields: (fields.text("type"), fields.count("count")),
                     lambda pool: pool[0])
    return dict(pools.values())


def _options(fields: Fields) -> OptimizerOptions:
    stated = fields.text("saturationPolicy", "")
    return OptimizerOptions(fields.flag("unlimited"), fields.flag("heterogeneous"),
                            fields.flag("milpSolver"), fields.flag("delayedBestEffort"),
                            _policy(stated), stated)


def _policy(text: str) -> Policy:
    # Upstream takes text that it does not know for None.
    return next((policy for policy in POLICIES if policy == text), "None")
