"""Traffic entries: conversion of the file's entries to sources of a workload."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeGuard

from penstock.core.errors import InputError, nearest
from penstock.core.request import AUTO
from penstock.fleet.adapters import resolve_traffic_adapters
from penstock.fleet.document import FleetDocument
from penstock.fleet.document_traffic import (
    AgentsSection,
    ArrivalsSection,
    ClientsSection,
    LengthsSection,
    TokensSection,
    TraceSection,
    TrafficSection,
)
from penstock.fleet.files import FileFinder
from penstock.fleet.groups import Resources
from penstock.fleet.marked_yaml import Path
from penstock.fleet.problems import PlacedError, quote
from penstock.fleet.values import Choice, TrafficSpec
from penstock.fleet.values_traffic import AgentSessions, ClientFiles, Lengths, TraceFile
from penstock.registry.sources import has_own_times, trace_columns
from penstock.workload import arrivals, profile
from penstock.workload.agents import PROFILES, AgentTraffic
from penstock.workload.arrivals import ArrivalProcess
from penstock.workload.client_files import WINDOWS
from penstock.workload.column_map import AS_KNOWN, ColumnMap, column_map, mapped_places
from penstock.workload.length_tables import length_table, length_table_names
from penstock.workload.lengths import (
    Fixed,
    LengthDistribution,
    Marginal,
    lognormal_mixture,
    quantile_table,
)
from penstock.workload.loops import ClosedLoop
from penstock.workload.sessions import Sessions

_COMMON = ("gap_cap", "exact_rate")
# By process: its required settings, and its optional ones.
_SETTINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "poisson": ((), _COMMON),
    "gamma": (("gap_cv",), _COMMON),
    "constant": ((), ()),
    "bursty": (("on_s", "off_s"), ("off_share", "gap_cv", *_COMMON)),
    "ramp": (("start", "end", "over_s"), ("gap_cv", *_COMMON)),
    "square": (("low", "high", "low_s", "high_s"), ("gap_cv", *_COMMON)),
    "hourly": (("rates",), ("hour_s", "gap_cv", *_COMMON)),
    "diurnal": (("peak_to_mean",), ("period_s", "peak_at_s", "gap_cv", *_COMMON)),
    "closed": (("clients",), ("think_s", "think_cv", "ramp_s")),
    "sessions": ((), ("think_s", "think_cv", "sessions_per_s")),
}
_DRAWN = ", ".join(name for name in _SETTINGS if name != "sessions")
_REQUESTS_PER_CLIENT = 10  # where the file states no number: as load tools do


def resolve_traffic(document: FleetDocument, have: Resources) -> tuple[TrafficSpec, ...]:
    """Return the document's entries with every name resolved and every default filled in."""
    specs: list[TrafficSpec] = []
    for i, entry in enumerate(document.traffic):
        spec = _entry(("traffic", i), entry, document, have)
        if any(spec.name == other.name for other in specs):
            if entry.name is not None:
                raise PlacedError(("traffic", i, "name"), f"{quote(spec.name)} appears twice")
            spec = _entry(("traffic", i), entry.model_copy(update={"name": f"{spec.name}-{i}"}),
                          document, have)
        specs.append(spec)
    return tuple(specs)


def _entry(path: Path, entry: TrafficSection, document: FleetDocument,
           have: Resources) -> TrafficSpec:
    lengths = _lengths(path, entry, have.files)
    choice = _arrivals(path, entry)
    if entry.rate_per_s is not None and isinstance(lengths, TraceFile) and lengths.scale:
        raise PlacedError((*path, "rate_per_s"), "stands beside trace.scale; keep one of them")
    if is_closed(choice):
        _check_closed(path, entry)
    elif choice is not None and not is_sessions(choice) and entry.rate_per_s is None:
        raise PlacedError(path, "no rate_per_s; expected the mean arrival rate in requests/s")
    num_requests = entry.num_requests
    if isinstance(entry.trace, TraceSection) and entry.trace.num_requests is not None:
        if num_requests is not None:
            raise PlacedError((*path, "num_requests"), "stands beside trace.num_requests; keep one")
        num_requests = entry.trace.num_requests
    if is_closed(choice) and num_requests is None:
        num_requests = _REQUESTS_PER_CLIENT * int(choice.options["clients"])
    model = entry.model or document.models[0].name
    if model != AUTO:
        model = have.models[model].spec.name
    return TrafficSpec(
        name=entry.name or _label(lengths), model=model,
        mix=entry.mix or _only_class(document),
        lengths=lengths, arrivals=choice, rate_per_s=entry.rate_per_s,
        tenants=entry.tenants or {}, num_requests=num_requests,
        duration_s=entry.duration_s, start_s=entry.start_s, max_tokens=entry.max_tokens,
        adapters=resolve_traffic_adapters((*path, "adapters"), entry.adapters,
                                          have.models.get(entry.model or document.models[0].name)))


def _check_closed(path: Path, entry: TrafficSection) -> None:
    for key, why in (("rate_per_s", "the clients decide the rate"),
                     ("duration_s", "num_requests bounds the requests of clients")):
        if getattr(entry, key) is not None:
            raise PlacedError((*path, key), f"stands beside closed arrivals; {why}")


def _only_class(document: FleetDocument) -> dict[str, float]:
    classes = document.service_classes
    return {classes[0].name: 1.0} if len(classes) == 1 else {}


def _label(lengths: Lengths) -> str:
    if isinstance(lengths, AgentSessions):
        return "agents"
    if isinstance(lengths, (str, ClientFiles)):
        return lengths if isinstance(lengths, str) else lengths.name
    return "trace" if isinstance(lengths, TraceFile) else "lengths"


def _lengths(path: Path, entry: TrafficSection,
             files: FileFinder) -> Lengths:
    stated = [key for key in ("trace", "lengths", "clients", "agents")
              if getattr(entry, key) is not None]
    if len(stated) != 1:
        raise PlacedError(path, f"states {' and '.join(stated) or 'none'}; expected one of trace, "
                                "lengths, clients and agents")
    if entry.agents is not None:
        return _agents((*path, "agents"), entry, entry.agents)
    if entry.clients is not None:
        return _client_files((*path, "clients"), entry, entry.clients, files)
    if isinstance(entry.trace, TraceSection):
        return _trace_file((*path, "trace"), entry.trace, files)
    if isinstance(entry.lengths, LengthsSection):
        at = (*path, "lengths")
        return LengthDistribution(_marginal((*at, "prompt"), entry.lengths.prompt),
                                  _marginal((*at, "output"), entry.lengths.output),
                                  entry.lengths.rho)
    key, name = ("trace", entry.trace) if entry.trace is not None else ("lengths", entry.lengths)
    known = length_table_names()
    if name not in known:
        hint = "; a trace file is given as trace: {file: PATH}" if "." in str(name) else \
            nearest(str(name), known)
        raise PlacedError((*path, key), f"unknown lengths {quote(name)}{hint}")
    return str(name)


def _client_files(path: Path, entry: TrafficSection, clients: str | ClientsSection,
                  files: FileFinder) -> ClientFiles:
    if isinstance(clients, str):
        clients = ClientsSection(set=clients)
    if entry.tenants is not None:
        raise PlacedError((*path[:-1], "tenants"), "stands beside clients, each a tenant")
    if clients.folder is None:
        folder = files.folder_of(clients.set, f"{WINDOWS}*.parquet", path)
    else:
        folder = files.find(clients.folder, (*path, "folder"))
    return ClientFiles(folder, clients.set, clients.from_s)


def _agents(path: Path, entry: TrafficSection, agents: str | AgentsSection) -> AgentSessions:
    if isinstance(agents, str):
        agents = AgentsSection(profile=agents)
    if agents.profile not in PROFILES:
        raise PlacedError((*path, "profile"), f"unknown profile {quote(agents.profile)}"
                                              f"{nearest(agents.profile, PROFILES)}")
    if entry.rate_per_s is not None:
        raise PlacedError((*path[:-1], "rate_per_s"),
                          "stands beside agents; set agents.sessions_per_s instead")
    found = AgentSessions(agents.profile, agents.sessions_per_s, agents.num_sessions,
                          agents.token_scale, agents.mean_turns, agents.human_share,
                          agents.reasoning_share)
    try:
        agent_traffic(found).check()
    except InputError as error:
        raise PlacedError(path, str(error)) from None
    return found


def agent_traffic(found: AgentSessions) -> AgentTraffic:
    """Return the sessions of the workload package."""
    profile = replace(PROFILES[found.profile].scaled(found.token_scale),
                      reasoning_share=found.reasoning_share)
    if found.mean_turns is not None:
        profile = replace(profile, mean_turns=found.mean_turns)
    if found.human_share is not None:
        profile = replace(profile, human_share=found.human_share)
    return AgentTraffic(profile, found.sessions_per_s, found.num_sessions)


def _trace_file(path: Path, trace: TraceSection, files: FileFinder) -> TraceFile:
    process = trace.arrivals if isinstance(trace.arrivals, str) else trace.arrivals.name
    own_times = process in ("own", "sessions")
    if own_times and trace.shuffle:
        raise PlacedError((*path, "shuffle"), "rows that keep their own times cannot be shuffled; "
                                              "name an arrival process in trace.arrivals")
    if not own_times and trace.scale is not None:
        raise PlacedError((*path, "scale"), "scales the trace's own times, which are not used; set "
                                            "rate_per_s instead")
    file = files.find(trace.file, (*path, "file"))
    return TraceFile(file, trace.format, own_times,
                     trace.scale, trace.shuffle, _columns(path, file, trace))


def _columns(path: Path, file: str, trace: TraceSection) -> ColumnMap:
    """Return the file's other names of columns, each checked against the columns of the file."""
    names = trace.columns or {}
    try:
        found = column_map(names, trace.clock)
    except InputError as error:
        raise PlacedError((*path, "columns"), str(error)) from None
    header = trace_columns(file, trace.format) if names else ()
    for own, pair in zip(names, found.names, strict=True):
        try:
            if header:
                mapped_places(file, header, ColumnMap((pair,)))
        except InputError as error:
            raise PlacedError((*path, "columns", own), str(error)) from None
    return found


def _marginal(path: Path, section: TokensSection) -> Marginal:
    given = section.given()
    try:
        if set(given) == {"fixed"}:
            return Fixed(section.fixed or 1)
        if set(given) == {"shares", "tokens"}:
            return quantile_table(section.shares or [], section.tokens or [])
        if set(given) == {"weights", "mus", "sigmas", "max_tokens"}:
            return lognormal_mixture(section.weights or [], section.mus or [],
                                     section.sigmas or [], section.max_tokens or 1)
    except InputError as error:
        raise PlacedError(path, str(error)) from None
    found = ", ".join(given) or "nothing"
    raise PlacedError(path, f"found {found}; expected fixed, or shares and tokens, or weights, "
                            "mus, sigmas and max_tokens")


def _arrivals(path: Path, entry: TrafficSection) -> Choice | None:
    """Return the arrival process, ``None`` when a trace or clients keep their own times."""
    at: Path = (*path, "arrivals")
    section = entry.arrivals
    if entry.clients is not None or entry.agents is not None:
        if section is not None:
            kind = "clients" if entry.agents is None else "agents"
            raise PlacedError(at, f"stands beside {kind}, which have arrivals of their own")
        return None
    if isinstance(entry.trace, TraceSection):
        if section is not None:
            raise PlacedError(at, "a trace file has its arrivals under trace.arrivals")
        at, section = (*path, "trace", "arrivals"), entry.trace.arrivals
        if section == "own":
            return None
    if section == "own":
        raise PlacedError(at, "only a trace file has times of its own; expected one of: "
                              f"{_DRAWN}")
    choice = _arrival_choice(at, section or "poisson")
    try:
        if is_closed(choice):
            closed_loop(choice).check()
        elif is_sessions(choice):
            if not isinstance(entry.trace, TraceSection):
                raise PlacedError(at, f"only a trace file has sessions; expected one of: {_DRAWN}")
            sessions(choice).check()
        else:
            arrival_process(choice)
    except InputError as error:
        raise PlacedError(at, str(error)) from None
    return choice


def _arrival_choice(path: Path, section: str | ArrivalsSection) -> Choice:
    if isinstance(section, str):
        section = ArrivalsSection.model_construct(name=section)
    options = section.given()
    name = str(options.pop("name"))
    if name not in _SETTINGS:
        raise PlacedError(path, f"unknown arrival process {quote(name)}{nearest(name, _SETTINGS)}")
    required, allowed = _SETTINGS[name]
    for key in required:
        if key not in options:
            raise PlacedError(path, f"{name} arrivals need {key}")
    for key in options:
        if key not in required and key not in allowed:
            valid = ", ".join((*required, *allowed)) or "none"
            raise PlacedError((*path, key),
                              f"{name} arrivals have no such setting; theirs: {valid}")
    return Choice(name, options)


def arrival_process(choice: Choice) -> ArrivalProcess:
    """Return the arrival process of the workload package. Raises InputError for settings out of
    range."""
    options = dict(choice.options)
    gap_cv = float(options.pop("gap_cv", 1.0))
    gap_cap, exact_rate = options.pop("gap_cap", None), bool(options.pop("exact_rate", False))
    if choice.name == "constant":
        return arrivals.constant()
    make: Mapping[str, Callable[..., profile.RateProfile]] = {
        "poisson": profile.SteadyRate, "gamma": profile.SteadyRate, "bursty": profile.bursty,
        "square": profile.square_wave, "hourly": profile.hourly, "diurnal": profile.diurnal,
        "ramp": profile.ramp}
    if choice.name == "ramp":
        options["duration_s"] = options.pop("over_s")
    return ArrivalProcess(gap_cv, make[choice.name](**options), gap_cap, exact_rate)


def is_closed(arrivals: Choice | None) -> TypeGuard[Choice]:
    """Whether clients decide when requests arrive."""
    return arrivals is not None and arrivals.name == "closed"


def closed_loop(choice: Choice) -> ClosedLoop:
    """Return the clients of closed arrivals."""
    options = dict(choice.options)
    return ClosedLoop(int(options.pop("clients")), **options)


def is_sessions(arrivals: Choice | None) -> TypeGuard[Choice]:
    """Whether a trace's turns wait for the answers to the turns before."""
    return arrivals is not None and arrivals.name == "sessions"


def sessions(choice: Choice) -> Sessions:
    """Return the conversations of a trace's arrivals."""
    return Sessions(**choice.options)


def check_open(traffic: Iterable[TrafficSpec], what: str, *, with_sessions: bool = False) -> None:
    """Raise InputError where traffic has no rate of its own, because clients decide the rate; that
    of sessions is refused, unless ``with_sessions``. ``what`` begins the reason."""
    for spec in traffic:
        if is_closed(spec.arrivals):
            raise InputError(f"traffic: {spec.name!r} has closed arrivals; {what} needs a "
                             "rate_per_s and open arrivals, such as poisson")
        if not with_sessions and _in_sessions(spec):
            raise InputError(f"traffic: {spec.name!r} has sessions, whose turns wait for answers; "
                             f"{what} needs open arrivals, such as the trace's own")


def _in_sessions(spec: TrafficSpec) -> bool:
    lengths = spec.lengths
    if isinstance(lengths, TraceFile) and lengths.own_times and spec.arrivals is None:
        known = None if lengths.format == "auto" else lengths.format
        return lengths.columns == AS_KNOWN and not has_own_times(lengths.path, known)
    return is_sessions(spec.arrivals) or isinstance(lengths, AgentSessions)


def longest_prompt(lengths: Lengths) -> int | None:
    """Return the longest prompt of these lengths, ``None`` where a file must be read first."""
    if isinstance(lengths, (TraceFile, ClientFiles, AgentSessions)):
        return None
    drawn = length_table(lengths) if isinstance(lengths, str) else lengths
    return drawn.prompt.max_tokens
