"""A fleet's traffic as a workload. Trace files are read and random numbers drawn here, not on
loading."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.core.request import AUTO
from penstock.fleet.adapters import adapter_shares
from penstock.fleet.traffic import (
    agent_traffic,
    arrival_process,
    closed_loop,
    is_closed,
    is_sessions,
    sessions,
)
from penstock.fleet.values import Fleet, ModelChoice, RunOptions, TrafficSpec
from penstock.fleet.values_traffic import AgentSessions, ClientFiles, TraceFile
from penstock.registry.sources import assumed_clock, read_trace
from penstock.workload.client_files import read_clients
from penstock.workload.column_map import ColumnMap
from penstock.workload.drawn import drawn
from penstock.workload.length_tables import length_table
from penstock.workload.lengths import LengthDistribution
from penstock.workload.mixing import drawable, expected_requests, generate
from penstock.workload.select import select
from penstock.workload.source import TrafficSource
from penstock.workload.trace import Trace
from penstock.workload.workload import Traffic, Workload

_Traces = dict[tuple[str, str, ColumnMap], Trace]

NOTHING = "traffic: no request arrives within the run's num_requests and duration_s"
DEFAULT_NUM_REQUESTS = 1000
"""Default duration of drawn traffic without a bound."""


def fleet_workload(fleet: Fleet, seed: int | None = None) -> Workload:
    """Return the requests of all traffic within the run's bounds.

    Raises InputError for an unusable trace file and for a prompt longer than its model's context.
    """
    return _workload(fleet, traffic_sources(fleet), seed)


def _workload(fleet: Fleet, sources: tuple[TrafficSource, ...], seed: int | None) -> Workload:
    workload = generate(sources, fleet.run.seed if seed is None else seed)
    workload = _cut(workload, fleet.run)
    if not len(workload):
        raise InputError(NOTHING)
    _check_names(fleet, workload)
    _check_times(workload)
    _check_prompts(fleet, workload)
    return workload


LONG_REQUESTS = 1_000_000
"""Expected requests from which on traffic that can be drawn again is not held."""


def fleet_traffic(fleet: Fleet, seed: int | None = None) -> Traffic:
    """Return the requests of ``fleet_workload``, drawn block by block where they are many and can
    be drawn so. Confidential requests are held, since a run states less about them.

    Raises InputError as ``fleet_workload`` does.
    """
    sources = traffic_sources(fleet)
    secret = fleet.gateway.confidential_tenants or any(
        one.confidential for one in fleet.service_classes)
    if (secret or fleet.multiplexing or not all(map(drawable, sources))
            or sum(map(expected_requests, sources)) < LONG_REQUESTS):
        return _workload(fleet, sources, seed)

    def check(block: Workload, first: int) -> None:
        if not first:
            _check_names(fleet, block)
        _check_times(block)
        _check_prompts(fleet, block, first)

    found = drawn(sources, fleet.run.seed if seed is None else seed, most=fleet.run.num_requests,
                  until_s=fleet.run.duration_s, check=check)
    if found is None:
        raise InputError(NOTHING)
    return found


def traffic_sources(fleet: Fleet) -> tuple[TrafficSource, ...]:
    """Return the sources of generated requests. Reads each trace file once."""
    traces: _Traces = {}
    models = {one.spec.name: one for one in fleet.models}
    return tuple(_with_adapters(_source(spec, fleet.run, traces), spec, models.get(spec.model))
                 for spec in fleet.traffic)


def _with_adapters(source: TrafficSource, spec: TrafficSpec, model: ModelChoice | None
                   ) -> TrafficSource:
    if model is None or not model.adapters:
        return source
    return replace(source, adapters=adapter_shares(spec.adapters, model),
                   adapter_classes={one.name: one.service_class for one in model.adapters})


def _source(spec: TrafficSpec, run: RunOptions,
            traces: _Traces) -> TrafficSource:
    trace, rate_per_s = None, spec.rate_per_s
    file = spec.lengths if isinstance(spec.lengths, TraceFile) else None
    if file is not None:
        trace = _read(file, traces)
        if file.scale is not None:
            rate_per_s = trace.rate_per_s * file.scale or None
    if isinstance(spec.lengths, ClientFiles):
        clients = read_clients(Path(spec.lengths.folder), spec.lengths.name)
        return TrafficSource(spec.name, spec.model, spec.mix, rate_per_s=rate_per_s,
                             num_requests=spec.num_requests,
                             duration_s=spec.duration_s or run.duration_s,
                             max_tokens=spec.max_tokens, start_s=spec.start_s, clients=clients,
                             from_s=spec.lengths.from_s)
    if isinstance(spec.lengths, AgentSessions):
        return TrafficSource(spec.name, spec.model, spec.mix, spec.tenants,
                             num_requests=spec.num_requests,
                             duration_s=spec.duration_s or run.duration_s,
                             max_tokens=spec.max_tokens, start_s=spec.start_s,
                             agents=agent_traffic(spec.lengths))
    bounds = spec if trace is not None or spec.num_requests or spec.duration_s else run
    num_requests = bounds.num_requests
    if trace is None and num_requests is None and bounds.duration_s is None:
        num_requests = DEFAULT_NUM_REQUESTS
    arrivals, loop, turns = None, None, None
    if is_closed(spec.arrivals):
        loop = closed_loop(spec.arrivals)
    elif is_sessions(spec.arrivals):
        turns = sessions(spec.arrivals)
    elif spec.arrivals is not None:
        arrivals = arrival_process(spec.arrivals)
    return TrafficSource(
        spec.name, spec.model, spec.mix, spec.tenants, trace,
        arrivals,
        length_table(spec.lengths) if isinstance(spec.lengths, str) else
        spec.lengths if isinstance(spec.lengths, LengthDistribution) else None,
        rate_per_s, num_requests, bounds.duration_s, spec.max_tokens, spec.start_s,
        file is not None and file.shuffle, loop, turns)


def _read(file: TraceFile, traces: _Traces) -> Trace:
    key = (file.path, file.format, file.columns)
    if key not in traces:
        traces[key] = read_trace(file.path, _format(file), file.columns)
    return traces[key]


def _format(file: TraceFile) -> str | None:
    return None if file.format == "auto" else file.format


def assumed_clocks(fleet: Fleet) -> tuple[str, ...]:
    """Return the assumptions on the clocks of trace files whose own times are used, each once.

    Reads the first lines of the files. Raises InputError for an unusable file.
    """
    files = [spec.lengths for spec in fleet.traffic if isinstance(spec.lengths, TraceFile)]
    found = [assumed_clock(file.path, _format(file), file.columns)
             for file in files if file.own_times]
    return tuple(dict.fromkeys(text for text in found if text))


# The simulator's clock counts picoseconds in 62 bits: about 53 days.
LONGEST_S = 4.0e6


def _check_times(workload: Workload) -> None:
    if workload.arrival_s[0] > LONGEST_S:
        raise InputError(f"traffic: the first request arrives after {workload.arrival_s[0]:,.10g} "
                         f"s; a run covers at most {LONGEST_S:,.0f} s (raise the rate; where these "
                         "are a trace's own times, subtract the first from all, since they count "
                         "from the start of the run)")
    if workload.duration_s > LONGEST_S:
        raise InputError(f"traffic: the last request arrives after {workload.duration_s:,.10g} s; "
                         f"a run covers at most {LONGEST_S:,.0f} s (raise the rate or cut the "
                         "trace with duration_s)")


def _check_names(fleet: Fleet, workload: Workload) -> None:
    """Check models and classes, which may come from a trace's own columns."""
    models = [*(model.spec.name for model in fleet.models), AUTO]
    classes = [service_class.name for service_class in fleet.service_classes]
    for kind, found, known in (("model", workload.models, models),
                               ("service class", workload.service_classes, classes)):
        for name in found:
            if name not in known:
                raise InputError(f"traffic: the trace names {kind} {name[:60]!r}, which the fleet "
                                 f"does not have{nearest(name, known)}")


def _cut(workload: Workload, run: RunOptions) -> Workload:
    """Return the first requests, within the run's number and duration."""
    num = len(workload) if run.num_requests is None else min(run.num_requests, len(workload))
    if run.duration_s is not None:
        num = min(num, int(workload.arrival_s.searchsorted(run.duration_s, "right")))
    return select(workload, np.arange(len(workload)) < num)


def _check_prompts(fleet: Fleet, workload: Workload, first: int = 0) -> None:
    for index, name in enumerate(workload.models):
        context = fleet.longest_context_tokens(name)
        too_long = (workload.model_index == index) & (workload.prompt_tokens > context)
        if too_long.any():
            row = int(too_long.argmax())
            raise InputError(
                f"traffic: request {first + row} has a prompt of "
                f"{workload.prompt_tokens[row]:,} tokens, as have {int(too_long.sum()) - 1} more "
                f"of such length; the context of {name} is {context:,} "
                "(models[].max_context_tokens sets another)")
