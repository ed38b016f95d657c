"""Traffic sources: who sends what to which model, and when."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.errors import InputError
from penstock.workload.agents import AgentTraffic
from penstock.workload.arrivals import ArrivalProcess
from penstock.workload.clients import ClientTraffic
from penstock.workload.lengths import LengthModel
from penstock.workload.loops import ClosedLoop
from penstock.workload.sessions import Sessions
from penstock.workload.trace import Trace


@dataclass(frozen=True, slots=True)
class TrafficSource:
    """One stream of requests.

    Times come from ``arrivals``, or from the clients of ``loop``, or from the trace when both are
    None. Lengths come from
    ``lengths``, or else from the trace's rows, shuffled with ``shuffle_rows``; rows bring their
    prefix hashes along. ``rate_per_s`` is the mean rate; a trace's own times are compressed or
    stretched to it, or kept when it is None.

    ``mix`` and ``tenants`` map names to relative shares, drawn per request; when empty, the trace's
    own column is used (``default`` without one). ``model`` likewise.

    ``max_tokens`` is what each request asks for at most, raised to the longest output the source
    can give; that is also its value when None. It is one number per source, so that it tells a
    policy nothing about a single request. ``start_s`` delays the whole source. A trace shorter
    than ``num_requests`` or ``duration_s`` is repeated; prefixes are not shared between rounds.
    With ``sessions``, a trace's own times are those of first turns. ``clients`` draw the trace,
    from ``from_s`` of their file on, and so do ``agents``.

    ``adapters`` maps adapters to relative shares, the empty name for the model itself; when empty,
    names of the trace's column of models that are in ``adapter_classes`` are adapters. That has the
    service class of each adapter's requests, None where the request's own counts.
    """

    name: str
    model: str = ""
    mix: Mapping[str, float] = field(default_factory=dict)
    tenants: Mapping[str, float] = field(default_factory=dict)
    trace: Trace | None = None
    arrivals: ArrivalProcess | None = None
    lengths: LengthModel | None = None
    rate_per_s: float | None = None
    num_requests: int | None = None
    duration_s: float | None = None
    max_tokens: int | None = None
    start_s: float = 0.0
    shuffle_rows: bool = False
    loop: ClosedLoop | None = None
    sessions: Sessions | None = None
    clients: ClientTraffic | None = None
    agents: AgentTraffic | None = None
    from_s: float = 0.0
    adapters: Mapping[str, float] = field(default_factory=dict)
    adapter_classes: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def times_from_links(self) -> bool:
        """Whether only answers tell when requests of the trace come: it keeps its own times, and
        records none for requests that waited."""
        return (self.trace is not None and not self.trace.timed and self.arrivals is None
                and self.loop is None)


def check_source(source: TrafficSource) -> None:
    """Raises InputError, naming the source and field, for what cannot be generated."""
    name = f"traffic source {source.name!r}"
    for column, shares in (("mix", source.mix), ("tenants", source.tenants),
                           ("adapters", source.adapters)):
        for label, share in shares.items():
            if not 0.0 <= share < float("inf"):
                raise InputError(f"{name}: {column} gives {label!r} a share of {share}; expected "
                                 "a number from 0")
        if shares and not sum(shares.values()) > 0.0:
            raise InputError(f"{name}: every share of {column} is 0")
    if source.lengths is None and source.trace is None:
        raise InputError(f"{name}: neither lengths nor a trace is given")
    if not 0.0 <= source.start_s < float("inf"):
        raise InputError(f"{name}: start_s is {source.start_s}; expected seconds from 0")
    for bound, value in (("num_requests", source.num_requests), ("max_tokens", source.max_tokens),
                         ("duration_s", source.duration_s), ("rate_per_s", source.rate_per_s)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name}: {bound} is {value}; expected a positive number")
    _check_times(name, source)


def _check_times(name: str, source: TrafficSource) -> None:
    if source.loop is not None:
        if source.arrivals is not None or source.rate_per_s is not None:
            raise InputError(f"{name}: clients stand beside an arrival process or a rate")
        if source.num_requests is None:
            raise InputError(f"{name}: clients need num_requests")
        source.loop.check()
    elif source.arrivals is not None:
        if source.rate_per_s is None:
            raise InputError(f"{name}: an arrival process needs rate_per_s")
        if source.num_requests is None and source.duration_s is None and source.trace is None:
            raise InputError(f"{name}: neither num_requests nor duration_s is given")
    elif source.trace is None or source.trace.arrival_s is None:
        raise InputError(f"{name}: neither an arrival process nor a trace with arrival times is "
                         "given")
    if source.sessions is not None:
        if source.loop is not None or source.arrivals is not None or source.lengths is not None:
            raise InputError(f"{name}: sessions need a trace's own times and lengths")
        source.sessions.check()
