"""Engines of a fleet: that of all replicas, and those of groups that name their own."""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from penstock.catalog.engines import engine_facts, engine_names
from penstock.core.errors import InputError
from penstock.fleet.document import (
    EngineSection,
    FleetDocument,
    ReplicaSection,
    VariantSection,
)
from penstock.fleet.document_schedule import ScheduleSection
from penstock.fleet.files import FileFinder
from penstock.fleet.problems import PlacedError
from penstock.fleet.step_times import resolve_step_time
from penstock.fleet.stock import INSIDE, STOCK, base_engine
from penstock.fleet.values import EngineOptions
from penstock.fleet.values_kv import KvTier
from penstock.perf.step_time.rate_table import load_rates
from penstock.policy.kv.index import TIERS

USUAL_ENGINE = "vllm"
"""Engine of a fleet whose file says nothing of engines."""


def resolve_engine(document: FleetDocument, files: FileFinder) -> EngineOptions:
    """Return the fleet's engine: what the file leaves out is as the engine has it.

    Where the file names no engine but states a schedule, step times or endpoints, or has models
    that share devices, replicas are ideal engines; else they are stock vLLM. Raises PlacedError for
    a file of rates or step times that cannot be read.
    """
    found = _options(document, engine_name(document), document.engine.version)
    place = ("engine", "step_time")
    found = replace(found, step_time=resolve_step_time(document.engine.step_time, files, place))
    _check_tiers(found)
    if found.rates is None:
        return found
    if found.step_time is not None:
        raise PlacedError(place, "stands beside engine.rates; keep one of them")
    path = ("engine", "rates")
    if found.name is None:
        raise PlacedError(path, "are of stock engines, and the fleet has ideal ones; expected "
                                "engine.name")
    rates = files.find(found.rates, path)
    try:
        load_rates(Path(rates))
    except InputError as error:
        raise PlacedError(path, str(error)) from None
    return replace(found, rates=rates)


def engine_name(document: FleetDocument) -> str | None:
    """Return the name of the fleet's engine, None for ideal engines."""
    if document.engine.name is not None or document.multiplexing:
        return document.engine.name
    stated = "schedule" in document.policies.model_fields_set or any(
        getattr(group, name, None) is not None for group in _groups(document)
        for name in ("schedule", "step_time", "endpoints"))
    return None if stated else USUAL_ENGINE


def usual_schedule(document: FleetDocument) -> str | ScheduleSection:
    """Return the stated policy, else the engine's own. Pools always have ours."""
    name = engine_name(document)
    own = name is not None and not name.startswith(INSIDE) and not document.multiplexing
    return STOCK if own and "schedule" not in document.policies.model_fields_set \
        else document.policies.schedule


def own_engine(section: ReplicaSection, document: FleetDocument) -> EngineOptions | None:
    """Return the engine of a group that names another stock engine, or another version, than the
    fleet; None where the fleet's applies.

    Of the section ``engine``, the limits of sequences and tokens hold for such a group, too. Raises
    InputError for an unknown version.
    """
    if section.engine not in engine_names():
        if section.version is not None:
            raise InputError(f"names a version of {section.engine}; expected engine: "
                             f"{' or '.join(engine_names())}")
        return None
    mine = section.version or (document.engine.version if section.engine == engine_name(document)
                               else None)
    if (section.engine, mine) == (engine_name(document), document.engine.version):
        return None
    return _options(document, section.engine, mine, ("max_num_seqs", "kv_tokens", "kv_tiers"))


def _options(document: FleetDocument, name: str | None, version: str | None,
             keys: Container[str] = tuple(EngineSection.model_fields)) -> EngineOptions:
    """Return an engine's options: ``keys`` that the file states, others as the engine has them."""
    stated = document.engine.model_fields_set
    given: dict[str, Any] = {key: value for key, value in document.engine.given().items()
                             if key in stated and key in keys}
    if "kv_tiers" in given:
        given["kv_tiers"] = tuple([KvTier(**one.given()) for one in given["kv_tiers"]])
    if name is None:
        return EngineOptions(**given)
    return replace(stock_options(name, version), **{**given, "name": name, "version": version})


def stock_options(name: str, version: str | None) -> EngineOptions:
    """Return the options of a stock engine that nobody changed. Raises InputError for an unknown
    version."""
    usual = engine_facts(base_engine(name), version)
    return EngineOptions(usual.block_tokens, usual.memory_fraction,
                         prefix_caching=usual.prefix_caching, name=name, version=version)


def _check_tiers(engine: EngineOptions) -> None:
    """Raises PlacedError for tiers in a wrong order, or without a prefix cache above."""
    path = ("engine", "kv_tiers")
    if engine.kv_tiers and not engine.prefix_caching:
        raise PlacedError(path, "need a prefix cache; expected engine.prefix_caching: true")
    names = [tier.name for tier in engine.kv_tiers]
    expected = [name for name in TIERS if name in names]
    if names != expected:
        raise PlacedError(path, f"are {', '.join(names)}; expected each tier once, the fastest "
                                f"first: {', '.join(expected)}")


def _groups(document: FleetDocument) -> Iterator[VariantSection]:
    yield from document.replicas or ()
    if document.sizing is not None:
        yield from document.sizing.groups or ()
    if document.variant is not None:
        yield document.variant
