"""Turns traffic sources into one workload."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

import numpy as np

from penstock.core.errors import InputError
from penstock.core.units import ceil_div
from penstock.workload.adapters import drawn_adapters, with_adapter_classes
from penstock.workload.agents import AgentTraffic
from penstock.workload.lengths import (
    LengthDistribution,
    LengthModel,
    LengthPairs,
    TraceLengths,
)
from penstock.workload.merge import joined, merged
from penstock.workload.named import named
from penstock.workload.sessions import Sessions, restarted, sessions_of
from penstock.workload.source import TrafficSource, check_source
from penstock.workload.streams import stream
from penstock.workload.trace import Prefixes, Trace, no_prefixes
from penstock.workload.workload import FloatColumn, Loops, Workload


def generate(sources: Sequence[TrafficSource], seed: int) -> Workload:
    """All sources' requests, merged by arrival; at equal times the earlier source comes first.

    Each source draws from streams that only its name and ``seed`` determine, one per purpose: to
    add a source, or to change another's rate, leaves its requests as they are. Raises InputError
    for a source that cannot be generated, for two of one name and for differing hash blocks.
    """
    if not sources:
        raise InputError("no traffic sources are given")
    if seed < 0:
        raise InputError(f"seed is {seed}; expected a whole number from 0")
    check_names(sources)
    parts = [_generated(source, seed) for source in sources]
    return parts[0] if len(parts) == 1 else merged(parts)


def check_names(sources: Sequence[TrafficSource]) -> None:
    """Raise InputError for two sources of one name."""
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two traffic sources are named {name!r}; their draws would be equal")


def scale_rate(workload: Workload, factor: float) -> Workload:
    """The same requests ``factor`` times as fast: every arrival time divided by it."""
    if not 0.0 < factor < np.inf:
        raise InputError(f"the rate factor is {factor}; expected a positive number")
    return replace(workload, arrival_s=workload.arrival_s / factor)


def drawable(source: TrafficSource) -> bool:
    """Whether the requests of a source can be drawn block by block.

    Not where a trace is repeated, where clients wait for answers, and where the number of requests
    decides the times."""
    if source.clients is not None:
        return source.num_requests is None
    return (source.arrivals is not None and not source.arrivals.exact_rate
            and isinstance(source.lengths, LengthDistribution) and source.trace is None)


def expected_requests(source: TrafficSource) -> float:
    """Return about how many requests a drawable source draws."""
    if source.clients is not None:
        return source.clients.expected(source.rate_per_s, source.duration_s, source.from_s)
    by_time = inf if source.duration_s is None or source.rate_per_s is None \
        else source.duration_s * source.rate_per_s
    return min(by_time, inf if source.num_requests is None else source.num_requests)


def source_blocks(source: TrafficSource, seed: int) -> Iterator[Workload]:
    """Draw the requests of a source in blocks of columns; in one block where it is not
    ``drawable``."""
    for block in _blocks(source, seed):
        yield with_adapter_classes(block, source.adapter_classes)


def _blocks(source: TrafficSource, seed: int) -> Iterator[Workload]:
    if not drawable(source):
        yield _whole(source, seed)
        return
    drawing = _Drawing(source, seed)
    if source.clients is not None:
        for trace in source.clients.blocks(seed, source.name, source.rate_per_s,
                                           source.duration_s, source.from_s):
            assert trace.arrival_s is not None, "clients draw times"
            lengths = TraceLengths(trace, shuffled=False)
            yield drawing.workload(trace.arrival_s, lengths.draw(drawing.lengths, len(trace)),
                                   trace)
        return
    check_source(source)
    assert source.arrivals is not None, "the source is drawable"
    assert source.lengths is not None, "the source is drawable"
    assert source.rate_per_s is not None, "check_source saw to it"
    for times in source.arrivals.blocks(stream(seed, source.name, "arrivals"), source.rate_per_s,
                                        num_requests=source.num_requests,
                                        duration_s=source.duration_s):
        yield drawing.workload(times, source.lengths.draw(drawing.lengths, len(times)), None)


def _generated(source: TrafficSource, seed: int) -> Workload:
    return joined(list(source_blocks(source, seed)))


def _whole(source: TrafficSource, seed: int) -> Workload:
    """Draw all requests of a source together."""
    if source.clients is not None:
        trace = source.clients.trace(seed, source.name, source.rate_per_s, source.duration_s,
                                     source.from_s)
        source = replace(source, trace=trace, clients=None, rate_per_s=None, duration_s=None,
                         max_tokens=max(source.max_tokens or 0, source.clients.max_output_tokens))
    if source.agents is not None:
        source = _with_sessions(source, source.agents, seed)
    check_source(source)
    turns = source.sessions
    if turns is None and source.times_from_links:
        turns = Sessions()
    if turns is not None and turns.sessions_per_s is not None and source.trace is not None:
        source = replace(source, trace=restarted(source.trace, turns.sessions_per_s,
                                                 stream(seed, source.name, "sessions")))
    drawing = _Drawing(source, seed)
    arrival_s = _arrivals(source, seed)
    pairs = _length_model(source).draw(drawing.lengths, len(arrival_s))
    found = drawing.workload(arrival_s, pairs, source.trace)
    if source.loop is not None:
        thinks_s = source.loop.thinks_s(stream(seed, source.name, "thinks"), len(found))
        return replace(found, loops=Loops(
            (source.loop.starts_s(source.start_s),), np.zeros(len(found), np.int64), thinks_s))
    if turns is not None:
        assert source.trace is not None, "check_source saw to it"
        return _in_sessions(found, source, source.trace, turns, seed)
    return found


def _with_sessions(source: TrafficSource, agents: AgentTraffic, seed: int) -> TrafficSource:
    """The source with the drawn sessions as its trace, which is not repeated."""
    agents.check()
    trace = agents.trace(stream(seed, source.name, "agents"))
    num = None if source.num_requests is None else min(source.num_requests, len(trace))
    return replace(source, agents=None, trace=trace, num_requests=num,
                   duration_s=source.duration_s and min(source.duration_s, trace.last_s))


class _Drawing:
    """The random streams of a source, one for each purpose, and its requests from their draws."""

    def __init__(self, source: TrafficSource, seed: int) -> None:
        self.lengths = stream(seed, source.name, "lengths")
        self._source = source
        self._labels = {column: stream(seed, source.name, column)
                        for column in ("model", "service_class", "tenant", "adapter")}
        longest = (_length_model(source).max_output_tokens if source.clients is None
                   else source.clients.max_output_tokens)
        self._max_tokens = max(source.max_tokens or 0, longest)

    def workload(self, arrival_s: FloatColumn, pairs: LengthPairs, trace: Trace | None
                 ) -> Workload:
        """Return requests at these times; those of a trace keep its names and prefixes."""
        source = self._source
        models, classes, tenants = (
            named(self._labels[column], column, shares, pairs, trace)
            for column, shares in (("model", {source.model: 1.0} if source.model else {}),
                                   ("service_class", source.mix), ("tenant", source.tenants)))
        prefixes = _prefixes(trace, pairs)
        adapters = drawn_adapters(self._labels["adapter"], source, pairs, trace)
        return Workload(
            arrival_s + source.start_s if source.start_s else arrival_s,
            pairs.prompt_tokens, pairs.output_tokens,
            np.full(len(arrival_s), self._max_tokens, np.int64),
            models.names, models.index, classes.names, classes.index, tenants.names,
            tenants.index, prefixes.offsets, prefixes.values, prefixes.block_tokens,
            adapters=() if adapters is None else adapters.names,
            adapter_index=None if adapters is None else adapters.index)


def _length_model(source: TrafficSource) -> LengthModel:
    if source.lengths is not None:
        return source.lengths
    assert source.trace is not None, "check_source saw to it"
    return TraceLengths(source.trace, source.shuffle_rows)


def _arrivals(source: TrafficSource, seed: int) -> FloatColumn:
    if source.loop is not None:
        assert source.num_requests is not None, "check_source saw to it"
        return np.zeros(source.num_requests)
    if source.arrivals is None:
        assert source.trace is not None, "check_source saw to it"
        return _replayed(source.trace, source)
    assert source.rate_per_s is not None, "check_source saw to it"
    num = source.num_requests
    if num is None and source.duration_s is None and source.trace is not None:
        num = len(source.trace)
    rng = stream(seed, source.name, "arrivals")
    return source.arrivals.arrivals(rng, source.rate_per_s, num_requests=num,
                                    duration_s=source.duration_s)


def _replayed(trace: Trace, source: TrafficSource) -> FloatColumn:
    """The trace's own times at the source's rate, repeated or cut to the source's bounds."""
    times = trace.arrival_s
    assert times is not None, "check_source saw to it"
    if source.rate_per_s is not None and len(times) > 1:
        if trace.rate_per_s <= 0:
            raise InputError(f"traffic source {source.name!r}: all {len(times):,} requests of its "
                             "trace come at one moment, so no rate can be set; give an arrival "
                             "process")
        times = times * (trace.rate_per_s / source.rate_per_s)
    size, span_s = len(times), float(times[-1] - times[0])
    # One mean gap separates two rounds, so that repeating keeps the rate.
    round_s = span_s * size / (size - 1) if size > 1 else 0.0
    rounds = 1
    if source.num_requests is not None:
        rounds = ceil_div(source.num_requests, size)
    elif source.duration_s is not None and source.duration_s > times[-1] and round_s > 0:
        rounds = 1 + int((source.duration_s - times[-1]) / round_s) + 1
    if rounds > 1:
        if round_s <= 0:
            raise InputError(f"traffic source {source.name!r}: its trace spans no time and so "
                             "cannot be repeated; give an arrival process")
        times = np.concatenate([times + number * round_s for number in range(rounds)])
    if source.num_requests is not None:
        times = times[:source.num_requests]
    if source.duration_s is not None:
        times = times[:int(np.searchsorted(times, source.duration_s, "right"))]
    return times


def _in_sessions(found: Workload, source: TrafficSource, trace: Trace, turns: Sessions, seed: int
                 ) -> Workload:
    """The requests of a trace with their sessions, whose turns wait for answers. Those of a second
    round are other people's. A session has one class, one tenant and one adapter, where drawn."""
    num = len(found)
    rows = np.arange(num)
    tasks = sessions_of(trace)[rows % len(trace)] + rows // len(trace) * len(trace)
    _, first, index = np.unique(tasks, return_index=True, return_inverse=True)
    drawn = {column: getattr(found, column)[first][index] for column, shares in (
        ("class_index", source.mix), ("tenant_index", source.tenants),
        ("adapter_index", source.adapters)) if shares}
    return replace(found, links=turns.links(trace, num, stream(seed, source.name, "thinks")),
                   tasks=tasks, **drawn)


def _prefixes(trace: Trace | None, pairs: LengthPairs) -> Prefixes:
    if trace is None or pairs.rows is None or not trace.prefixes:
        return no_prefixes()
    prefixes = trace.prefixes.take(pairs.rows)
    # A second round of the same trace is other people's prompts: it shares nothing with the first.
    rounds = np.arange(len(pairs.rows)) // len(trace)
    if len(rounds) and rounds[-1] > 0 and len(trace.prefixes.values):
        step = int(trace.prefixes.values.max()) + 1
        values = prefixes.values + np.repeat(rounds * step, prefixes.counts)
        return replace(prefixes, values=values)
    return prefixes
