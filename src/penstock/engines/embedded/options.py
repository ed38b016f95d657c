"""Options of Penstock's scheduler inside an engine, read when the engine starts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.core.slo import ServiceClass, Slo
from penstock.engines.embedded.calibrate import GUESS
from penstock.journal.journal import Journal
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.schedule.options import SchedulerOptions
from penstock.registry.make import schedule_options

ENVIRONMENT = "PENSTOCK_INSIDE"
"""Environment variable that names a file with the options, if the engine's configuration has
none."""

_KEYS = ("fleet", "replica", "policy", "schedule", "service_classes", "default_class", "step_time",
         "calibrate", "journal")


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """Options of the scheduler in one engine.

    ``journal`` is a folder for the engine's journal, None for none. With ``calibrate`` the
    step-time model is fitted to the engine's own steps as they come.
    """

    schedule: SchedulerOptions
    classes: tuple[ServiceClass, ...]
    default_class: ServiceClass
    step_time: StepTimeModel = GUESS
    calibrate: bool = True
    journal: Path | None = None
    replica: int = 0


def embedded_options(document: Any) -> EmbeddedOptions:
    """Read the options from a mapping, or from the environment where it is None.

    ``fleet`` names a fleet file and ``replica`` one of its replicas by number: classes, policy and
    step time then come from that file, so that engine, gateway and simulator agree. Without it,
    ``policy``, ``schedule`` (settings), ``service_classes`` and ``step_time`` state them here.
    Raises InputError with the key, the value found and the value expected.
    """
    if document is None:
        document = _from_environment()
    if not isinstance(document, Mapping):
        raise InputError(f"penstock: {document!r}; expected a mapping of options")
    for key in document:
        if key not in _KEYS:
            raise InputError(f"penstock: unknown option {key!r}{nearest(str(key), _KEYS)}")
    options = _of_fleet(document) if "fleet" in document else _of_mapping(document)
    journal = document.get("journal")
    if journal is not None and not isinstance(journal, str):
        raise InputError(f"penstock: journal is {journal!r}; expected the name of a folder")
    calibrate = document.get("calibrate", True)
    if not isinstance(calibrate, bool):
        raise InputError(f"penstock: calibrate is {calibrate!r}; expected true or false")
    return replace(options, calibrate=calibrate, journal=None if journal is None else Path(journal))


def _from_environment() -> Any:
    import yaml

    path = os.environ.get(ENVIRONMENT)
    if not path:
        return {}
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{ENVIRONMENT}: {path} cannot be read as YAML "
                         f"({' '.join(str(error).split())})") from None


def _of_fleet(document: Mapping[str, Any]) -> EmbeddedOptions:
    from penstock.fleet.load import load_fleet
    from penstock.fleet.replica_factory import step_time

    for key in ("policy", "schedule", "service_classes", "step_time"):
        if key in document:
            raise InputError(f"penstock: {key} and fleet exclude each other; the fleet file says "
                             "it")
    fleet = load_fleet(str(document["fleet"]))
    groups = [group for group in fleet.replicas for _ in range(group.count)]
    number = document.get("replica", 0)
    if type(number) is not int or not 0 <= number < len(groups):
        raise InputError(f"penstock: replica is {number!r}; {document['fleet']} has {len(groups)}, "
                         "counted from 0")
    group = groups[number]
    named = document.get("default_class") or next(
        iter(group.service_classes or [one.name for one in fleet.service_classes]))
    return EmbeddedOptions(fleet.schedule_of(group), fleet.service_classes,
                           _default(fleet.service_classes, named), step_time(group), replica=number)


def _of_mapping(document: Mapping[str, Any]) -> EmbeddedOptions:
    settings = document.get("schedule", {})
    if not isinstance(settings, Mapping):
        raise InputError(f"penstock: schedule is {settings!r}; expected a mapping of settings")
    schedule = schedule_options(str(document.get("policy", "penstock")), **dict(settings))
    classes = _classes(document.get("service_classes", []))
    if "default_class" in document:
        default = _default(classes, document["default_class"])
    else:
        default = classes[0] if classes else ServiceClass("default")
    return EmbeddedOptions(schedule, classes, default, _step_time(document.get("step_time")))


def _default(classes: tuple[ServiceClass, ...], name: Any) -> ServiceClass:
    known = {one.name: one for one in classes}
    if name not in known:
        raise InputError(f"penstock: default_class {name!r} is none of the service classes"
                         f"{nearest(str(name), known)}")
    return known[name]


def _classes(documents: Any) -> tuple[ServiceClass, ...]:
    from pydantic import ValidationError

    from penstock.fleet.document import ServiceClassSection

    if not isinstance(documents, list):
        raise InputError(f"penstock: service_classes is {documents!r}; expected a list")
    classes = []
    for number, document in enumerate(documents):
        try:
            section = ServiceClassSection.model_validate(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(f"penstock: service_classes[{number}].{where}: {first['msg']}"
                             ) from None
        classes.append(ServiceClass(section.name, Slo(**section.slo.given()), section.priority,
                                    section.weight))
    return tuple(classes)


def _step_time(spec: Any) -> StepTimeModel:
    from penstock.perf.step_time.store import published_names
    from penstock.registry.step_times import load_step_time, published_step_time
    from penstock.registry.step_times import step_time_from as from_document

    if spec is None:
        return GUESS
    if isinstance(spec, Mapping):
        return from_document(spec, "penstock: step_time")
    if spec in published_names():
        return published_step_time(str(spec))
    return load_step_time(str(spec))


def limited(schedule: SchedulerOptions, max_num_seqs: int, max_step_tokens: int,
            kv_blocks: int, longest_blocks: int) -> SchedulerOptions:
    """Return the policy within an engine's limits.

    ``longest_blocks`` are the blocks of the longest request that the engine accepts. The part of
    ``kv_blocks`` that is kept free when a request starts must leave room for it.
    """
    spare = max(0, kv_blocks - longest_blocks) / kv_blocks
    return replace(correctable(schedule),
                   max_num_seqs=min(schedule.max_num_seqs, max_num_seqs),
                   max_step_tokens=min(schedule.max_step_tokens, max_step_tokens),
                   chunk_tokens=min(schedule.chunk_tokens, max_step_tokens),
                   kv_watermark=min(schedule.kv_watermark, spare))


def correctable(schedule: SchedulerOptions) -> SchedulerOptions:
    """Return a schedule of which an engine can correct the plans: a prompt's KV cache is booked as
    a whole, and ends are known when the engine reports them."""
    by_chunk = schedule.kv_reserve in ("chunk", "prompt_fits")
    return replace(schedule, kv_reserve="prompt" if by_chunk else schedule.kv_reserve,
                   late_results=False)


def schedule_document(schedule: SchedulerOptions) -> dict[str, Any]:
    """Return the options for a journal's header."""
    return {field.name: getattr(schedule, field.name) for field in fields(schedule)}


def new_journal(folder: Path, number: int, header: Mapping[str, Any]) -> Journal:
    """Create a journal in ``folder``, which is created. Raises InputError where there is one
    already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / f"journal-{number}.jsonl").open("xb")
    except FileExistsError:
        raise InputError(f"penstock: journal {folder}: holds one already; expected a new folder"
                         ) from None
    except OSError as error:
        raise InputError(f"penstock: journal {folder}: {error.strerror}") from error
    return Journal(stream, dict(header))
