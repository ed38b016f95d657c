"""Problems between sections: unknown names, shares that do not add up, duplicates."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import fsum
from typing import NamedTuple

from penstock.catalog import Catalog
from penstock.catalog.engines import engine_facts, engine_names
from penstock.core.errors import InputError, nearest
from penstock.core.hardware import Accelerator
from penstock.core.model import ModelSpec
from penstock.core.request import AUTO
from penstock.core.settings import refused, unknown_setting
from penstock.fleet.attestation import attestation_problems
from penstock.fleet.document import (
    FleetDocument,
    ReplicaSection,
    SizingGroupSection,
    VariantSection,
)
from penstock.fleet.document_gateway import GatewaySection, RequestParametersSection
from penstock.fleet.document_schedule import ScheduleSection, named_stock
from penstock.fleet.document_traffic import TraceSection
from penstock.fleet.fields import Named
from penstock.fleet.kubernetes import kubernetes_problems
from penstock.fleet.marked_yaml import Path
from penstock.fleet.multiplexing import multiplexing_problems, problems_of_pools_alone
from penstock.fleet.objectives import objective_problems
from penstock.fleet.problems import Problem, nearest_key, quote
from penstock.fleet.scaler_file import stated_scaler
from penstock.fleet.scaling import scaling_problems
from penstock.fleet.stock import base_engine, simulated_engines
from penstock.registry.axis import Axis
from penstock.registry.engines import engine_can, engines_for
from penstock.registry.policies import ADMISSIONS, MULTIPLEXERS, ROUTERS, SCALERS, SCHEDULES
from penstock.registry.sources import TRACES

_SHARE_TOLERANCE = 0.005


class Names(NamedTuple):
    """Names in this file that its other sections may refer to."""

    accelerators: tuple[str, ...]
    models: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]


def reference_problems(document: FleetDocument, catalog: Catalog, *,
                       to_plan: bool = False) -> Iterator[Problem]:
    """Yield all problems of the names and shares of a well-formed document. With ``to_plan``,
    traffic may have no replicas yet."""
    yield from _catalog_problems(document, catalog)
    names = Names(tuple(a.name for a in document.accelerators),
                  {m.name: tuple(m.precisions) for m in document.models},
                  tuple(c.name for c in document.service_classes))
    yield from _duplicates("service_classes", names.classes)
    yield from objective_problems(document.service_classes)
    yield from _traffic_problems(document, names)
    yield from _group_problems(document, names, to_plan)
    yield from attestation_problems(document, catalog)
    yield from _multiplexing_problems(document, names)
    yield from _policy_problems(document, to_plan)
    yield from _plan_problems(document)
    if document.gateway is not None:
        yield from _gateway_problems(document.gateway, names)


def unknown(path: Path, what: str, name: str, valid: Iterable[str]) -> Problem:
    """Return the problem of an unknown name."""
    return Problem(path, f"unknown {what} {quote(name)}{nearest(name, valid)}")


def _duplicates(section: str, names: Iterable[str]) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in first:
            yield Problem((section, i, "name"),
                          f"{quote(name)} appears twice, first as {section}[{first[name]}]")
        first.setdefault(name, i)


def _catalog_problems(document: FleetDocument, catalog: Catalog) -> Iterator[Problem]:
    yield from _entry_problems("accelerators", [a.name for a in document.accelerators],
                               catalog.accelerator)
    # A model with its own config needs no catalog entry.
    yield from _entry_problems("models", [m.name for m in document.models],
                               lambda name: catalog_model(catalog, name),
                               [m.name for m in document.models if m.config is not None])
    for i, model in enumerate(document.models):
        if not model.precisions:
            yield Problem(("models", i, "precisions"), "expected at least one, found none")
        if len(set(model.precisions)) < len(model.precisions):
            yield Problem(("models", i, "precisions"), "a precision appears twice")


def catalog_model(catalog: Catalog, name: str) -> ModelSpec:
    """Return the catalog's model of that name or alias, never a file of that name."""
    if name.endswith(".json") or name.startswith(("./", "../", "/", "~")):
        raise InputError(f"{quote(name)} is a path; give it as config, beside a name of your own")
    return catalog.listed_model(name)


def _entry_problems(section: str, names: list[str],
                    lookup: Callable[[str], Accelerator | ModelSpec],
                    own: Iterable[str] = ()) -> Iterator[Problem]:
    """Yield names that are not in the catalog, and several aliases of one entry."""
    canonical: list[str] = []
    for i, name in enumerate(names):
        try:
            canonical.append(name if name in own else lookup(name).name)
        except InputError as error:
            canonical.append(name)
            yield Problem((section, i, "name"), str(error))
    yield from _duplicates(section, canonical)


def _traffic_problems(document: FleetDocument, names: Names) -> Iterator[Problem]:
    for i, entry in enumerate(document.traffic):
        path: Path = ("traffic", i)
        yield from _model_problems(path, entry.model, names)
        if entry.mix is None and len(names.classes) > 1 and not isinstance(entry.trace,
                                                                          TraceSection):
            yield Problem(path, "no mix; the fleet has several service classes, so say "
                                "each one's share")
        for name in entry.mix or ():
            if name not in names.classes:
                yield unknown((*path, "mix", name), "service class", name, names.classes)
        yield from _share_problems((*path, "mix"), entry.mix)
        yield from _share_problems((*path, "tenants"), entry.tenants)
        if isinstance(entry.trace, TraceSection) and entry.trace.format != "auto" \
                and not TRACES.knows(entry.trace.format):
            yield unknown((*path, "trace", "format"), TRACES.kind, entry.trace.format,
                          ("auto", *TRACES.all_names()))


def _share_problems(path: Path, shares: Mapping[str, float] | None) -> Iterator[Problem]:
    if shares is None:
        return
    total = fsum(shares.values())
    if abs(total - 1.0) > _SHARE_TOLERANCE:
        yield Problem(path, f"shares sum to {total:g}; expected 1")


def _model_problems(path: Path, model: str | None, names: Names) -> Iterator[Problem]:
    if model is None and len(names.models) > 1:
        yield Problem(path, "no model; the fleet has several, so name one of "
                            + ", ".join(sorted(names.models)) + ", or auto for any of them")
    if model is not None and model != AUTO and model not in names.models:
        yield unknown((*path, "model"), "model", model, names.models)


def _group_problems(document: FleetDocument, names: Names, to_plan: bool) -> Iterator[Problem]:
    replicas = document.replicas or []
    yield from _engine_problems(replicas)
    groups = (document.sizing and document.sizing.groups) or []
    problems = list(_kinds_problems(document, replicas, groups, names))
    yield from problems
    if problems:  # a class that seems unserved may be misspelt
        return
    if not to_plan:
        yield from _unserved(("replicas",), replicas, document, names)
    yield from _unserved(("sizing", "groups"), groups, document, names)
    if document.variant is not None and not replicas:
        yield from _unserved(("variant",), [document.variant], document, names)


def _kinds_problems(document: FleetDocument, replicas: list[ReplicaSection],
                    groups: list[SizingGroupSection], names: Names) -> Iterator[Problem]:
    for i, replica in enumerate(replicas):
        path: Path = ("replicas", i)
        yield from _variant_problems(path, replica, names)
        yield from _class_list_problems((*path, "service_classes"), replica.service_classes, names)
    for i, group in enumerate(groups):
        path = ("sizing", "groups", i)
        yield from _variant_problems(path, group, names)
        yield from _class_list_problems((*path, "classes"), group.classes, names)
    if document.variant is not None:
        yield from _variant_problems(("variant",), document.variant, names)
        if groups:
            yield Problem(("variant",), "stands beside sizing.groups; keep one of them")
    if document.sizing is not None and document.sizing.groups == []:
        yield Problem(("sizing", "groups"), "expected at least one entry, found an empty list")
    if document.replicas == []:
        yield Problem(("replicas",), "expected at least one entry, found an empty list; leave the "
                                     "key out to have the fleet sized")


def _engine_problems(replicas: list[ReplicaSection]) -> Iterator[Problem]:
    for i, replica in enumerate(replicas):
        if replica.engine in engine_names() and not replica.endpoints:
            continue
        if not engine_can(replica.engine, "serve"):
            yield Problem(("replicas", i, "engine"), f"found {quote(replica.engine)}"
                          f"{nearest(replica.engine[:200], engines_for('serve'))}")


def _multiplexing_problems(document: FleetDocument, names: Names) -> Iterator[Problem]:
    only = next(iter(names.models))
    fixed = [replica.model or only for replica in document.replicas or () if replica.endpoints]
    yield from multiplexing_problems(document.multiplexing, fixed)
    yield from problems_of_pools_alone(document, names.models)
    for i, pool in enumerate(document.multiplexing or ()):
        path: Path = ("multiplexing", i)
        if pool.accelerator is not None and pool.accelerator not in names.accelerators:
            yield unknown((*path, "accelerator"), "accelerator", pool.accelerator,
                          names.accelerators)
        yield from _choice_problems((*path, "policy"), pool.policy, MULTIPLEXERS)
        for j, model in enumerate(pool.models):
            yield from _model_problems((*path, "models", j), model.model, names)


def _class_list_problems(path: Path, classes: list[str] | None, names: Names) -> Iterator[Problem]:
    if classes == []:
        yield Problem(path, "expected at least one entry, found an empty list; leave the key out "
                            "to serve every class")
    for i, name in enumerate(classes or ()):
        if name not in names.classes:
            yield unknown((*path, i), "service class", name, names.classes)
        if name in (classes or ())[:i]:
            yield Problem((*path, i), f"{quote(name)} appears twice")


def _variant_problems(path: Path, variant: VariantSection, names: Names) -> Iterator[Problem]:
    yield from _model_problems(path, variant.model, names)
    if variant.accelerator is not None and variant.accelerator not in names.accelerators:
        yield unknown((*path, "accelerator"), "accelerator", variant.accelerator,
                      names.accelerators)
    precisions = names.models.get(variant.model or next(iter(names.models)), ())
    if variant.precision is not None and precisions and variant.precision not in precisions:
        yield Problem((*path, "precision"), f"{quote(variant.precision)} is not among the model's "
                                            f"precisions: {', '.join(precisions)}")
    yield from _schedule_problems((*path, "schedule"), variant.schedule)


def _unserved(path: Path, groups: Iterable[VariantSection],
              document: FleetDocument, names: Names) -> Iterator[Problem]:
    """Yield classes of traffic that no group serves, for models that are not multiplexed."""
    groups, swapped = list(groups), document.multiplexed_models()
    only_model = next(iter(names.models))
    for entry in document.traffic if groups else ():
        model = entry.model or only_model
        if model in swapped or (model == AUTO and swapped):
            continue
        serving = [_classes_of(g) for g in groups
                   if model in ((g.model or only_model), AUTO)]
        for name in entry.mix or names.classes:
            if not any(classes is None or name in classes for classes in serving):
                yield Problem(path, f"no entry serves class {quote(name)} of model {quote(model)}, "
                              "which has traffic")


def _classes_of(group: VariantSection) -> list[str] | None:
    if isinstance(group, ReplicaSection):
        return group.service_classes
    return group.classes if isinstance(group, SizingGroupSection) else None


def _plan_problems(document: FleetDocument) -> Iterator[Problem]:
    """Yield lists of the plan's choices that are empty or have duplicates."""
    for key, value in document.plan.given().items() if document.plan else ():
        if value == []:
            yield Problem(("plan", key), "expected at least one entry, found an empty list; leave "
                                         "the key out to have them chosen")
        for i, entry in enumerate(value if isinstance(value, list) else ()):
            if entry in value[:i]:
                yield Problem(("plan", key, i), f"{entry} appears twice")


def _gateway_problems(section: GatewaySection, names: Names) -> Iterator[Problem]:
    for name, alias in section.aliases.items():
        path: Path = ("gateway", "aliases", name)
        if name in names.models:
            yield Problem(path, "is a model's name; take another")
        yield from _name_list_problems((*path, "models"), "model", alias.models, names.models)
        yield from _request_parameter_problems(path, alias, names)
    for problem in _duplicates("tenants", [tenant.name for tenant in section.tenants]):
        yield Problem(("gateway", *problem.path), problem.text)
    for i, tenant in enumerate(section.tenants):
        path = ("gateway", "tenants", i)
        yield from _name_list_problems((*path, "models"), "model", tenant.models, tenant.models)
        yield from _name_list_problems((*path, "service_classes"), "service class",
                                       tenant.service_classes, names.classes)
        yield from _request_parameter_problems((*path, "defaults"), tenant.defaults, names)
        model, known = tenant.defaults.model, (*names.models, *section.aliases, AUTO)
        if model is not None and model not in known:
            yield unknown((*path, "defaults", "model"), "model or alias", model, known)


def _request_parameter_problems(path: Path, parameters: RequestParametersSection,
                                names: Names) -> Iterator[Problem]:
    if parameters.service_class is not None and parameters.service_class not in names.classes:
        yield unknown((*path, "service_class"), "service class", parameters.service_class,
                      names.classes)


def _name_list_problems(path: Path, what: str, found: list[str] | None,
                        valid: Iterable[str] | None) -> Iterator[Problem]:
    if found == []:
        yield Problem(path, "expected at least one entry, found an empty list; leave the key out "
                            "to allow all")
    for i, name in enumerate(found or ()):
        if name not in (valid or ()):
            yield unknown((*path, i), what, name, valid or ())
        if name in (found or ())[:i]:
            yield Problem((*path, i), f"{quote(name)} appears twice")


def _policy_problems(document: FleetDocument, to_plan: bool) -> Iterator[Problem]:
    policies = document.policies
    yield from (*scaling_problems(document, to_plan=to_plan), *kubernetes_problems(document))
    yield from _stock_engine_problems(document)
    yield from _schedule_problems(("policies", "schedule"), policies.schedule)
    for kind, choice, axis in (("route", policies.route, ROUTERS),
                               ("admit", policies.admit, ADMISSIONS)):
        if choice is not None:
            yield from _choice_problems(("policies", kind), choice, axis)
    yield from _scaler_problems(document)


def _scaler_problems(document: FleetDocument) -> Iterator[Problem]:
    """Yield problems of the scale policy, and of the settings that the section scaling has for it
    and for others."""
    choice = stated_scaler(document)
    stated = (document.scaling and document.scaling.settings) or {}
    for name, settings in stated.items():
        path = ("scaling", "settings", name)
        yield from _choice_problems(path, Named(name=name, **settings), SCALERS)
    if not isinstance(choice, str) or choice not in stated:
        yield from _choice_problems(("policies", "scale"), choice, SCALERS)


def _stock_engine_problems(document: FleetDocument) -> Iterator[Problem]:
    """Yield problems of the simulated engine's name and version."""
    engine = document.engine
    if engine.name is None:
        if engine.version is not None:
            yield Problem(("engine", "version"), "names a version of no engine; expected "
                                                 "engine.name")
        if named_stock(document.policies.schedule):
            yield Problem(("policies", "schedule"), "stock is the scheduler of the engine, and "
                                                    "engine.name states none")
    elif engine.name not in simulated_engines():
        yield unknown(("engine", "name"), "engine", engine.name, simulated_engines())
    else:
        try:
            engine_facts(base_engine(engine.name), engine.version)
        except InputError as error:
            yield Problem(("engine", "version"), str(error).removeprefix("version: "))


def _choice_problems(path: Path, choice: str | Named, axis: Axis) -> Iterator[Problem]:
    name = choice if isinstance(choice, str) else choice.name
    given = {} if isinstance(choice, str) else choice.__pydantic_extra__
    try:
        entry = axis.entry(name)
    except InputError as error:
        yield Problem(path, str(error))
        return
    known = entry.settings
    for keys in entry.required:
        either = (keys,) if isinstance(keys, str) else keys
        if not any(key in given for key in either):
            yield Problem(path, f"{axis.kind} {quote(name)} needs the setting "
                                f"{' or '.join(either)}; expected {{name: {name}, {either[0]}: "
                                "...}")
    for key in given:
        if key not in known:
            yield Problem((*path, key), f"{axis.kind} {quote(name)} has no setting of this name"
                          f"{unknown_setting(key, known)}")
    for key, problem in refused(given, known):
        yield Problem((*path, key), f"{problem}, found {quote(given[key])}")


def _schedule_problems(path: Path, choice: str | ScheduleSection | None) -> Iterator[Problem]:
    """Yield problems of a policy's settings: those of the section, and those that a plug-in
    declares."""
    if named_stock(choice):
        return
    if choice is None or isinstance(choice, str):
        yield from _choice_problems(path, choice or "penstock", SCHEDULES)
        return
    settings = {*ScheduleSection.model_fields} - {"name"}
    extra = choice.__pydantic_extra__ or {}
    try:
        known = SCHEDULES.entry(choice.name).settings
    except InputError as error:
        yield Problem(path, str(error))
        return
    for key in extra:
        if key not in known:
            yield Problem((*path, key), f"unknown key{nearest_key(key[:200], {*settings, *known})}")
    for key, problem in refused(extra, known):
        yield Problem((*path, key), f"{problem}, found {quote(extra[key])}")
