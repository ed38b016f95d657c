"""Observation of engines behind other software's gateway, through a Prometheus server."""

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple, Protocol

from penstock.core.slo import ServiceClass
from penstock.fleet.values_observe import PrometheusOptions
from penstock.policy.scale.values import (
    Gauges,
    Observation,
    SeenDemand,
    SeenGroup,
    SeenReplica,
    State,
    Totals,
)
from penstock.serving.scaling.engine_demand import EngineDemand, Shown
from penstock.serving.scaling.engine_series import (
    Figures,
    arrivals_query,
    counters_by_model,
    down_query,
    engines_query,
    read_figures,
    replica_name,
)
from penstock.serving.scaling.groups import Ages, LiveGroup, LiveReplica, Numbers
from penstock.serving.scaling.prometheus import Prometheus, PrometheusError, Sample
from penstock.serving.scaling.totals import TotalsMeter

DOWN_S = 120.0
"""Time for which a replica that cannot be scraped may still serve: without its counters, demand is
missing. Later the replica counts as one that does not serve."""


class ScrapedGroup(Protocol):
    """Replicas of one model by the names that Prometheus has for them. ``model`` is the engines'
    name for it; ``down_s`` says since when replicas that may serve are not scraped."""

    model: str
    may_begin_empty: bool
    down_s: dict[str, float]

    def number(self, name: str) -> int:
        """Return the number of a replica by its name: no other replica ever has it."""

    def see(self, names: Sequence[str], down: Sequence[str]) -> None:
        """Take the names of the replicas that are scraped, and of targets that cannot be
        scraped."""

    def may_hide(self) -> bool:
        """Whether a replica that cannot be scraped may serve requests nevertheless."""


class ObservedGroup:
    """Replicas of one model that Prometheus scrapes. Orders change nothing: the target is the
    number of replicas, whoever started them.

    Replicas stay as they were last seen while metrics are missing. A replica that cannot be
    scraped at present counts as starting. ``model`` is the engines' name for it.
    """

    num_places = None

    def __init__(self, model: str, clock: Callable[[], float], *,
                 may_begin_empty: bool = False) -> None:
        self.model = model
        self.may_begin_empty = may_begin_empty
        self.down_s: dict[str, float] = {}
        self._clock = clock
        self._numbers = Numbers()
        self._present: list[str] = []
        self._ages = Ages(clock)

    @property
    def target(self) -> int:
        """Number of replicas."""
        return len(self._present)

    @property
    def inherited(self) -> int:
        """Number of replicas: nobody tells who ordered them."""
        return self.target

    def number(self, name: str) -> int:
        """Return the number of a replica by its name: no other replica ever has it."""
        return self._numbers.of(name)

    def see(self, names: Sequence[str], down: Sequence[str]) -> None:
        """Take the names of the replicas that are scraped, and of targets that cannot be scraped:
        those that were seen before count."""
        known = [name for name in down if name in self._present and name not in names]
        self._present = [*names, *known]
        self.down_s = {name: self.down_s.get(name, self._clock()) for name in known}
        for number in self._numbers.keep(self._present):
            self._ages.forget(number)

    def may_hide(self) -> bool:
        """Whether a replica that cannot be scraped may serve requests nevertheless."""
        return any(self._clock() - since_s < DOWN_S for since_s in self.down_s.values())

    def replicas(self) -> list[LiveReplica]:
        """Return the replicas."""
        found = []
        for name in self._present:
            number = self.number(name)
            state: State = "starting" if name in self.down_s else "ready"
            found.append(LiveReplica(number, state, self._ages.since_s(number, state)))
        return found

    def adopt(self, numbers: range) -> None:
        """Do nothing: endpoints do not matter."""

    def order(self, target: int) -> None:
        """Do nothing."""

    async def tend(self) -> None:
        """Do nothing."""


class Observed(NamedTuple):
    """Last reading of a group: gauges with their age by number, and totals."""

    gauges: Mapping[int, tuple[Gauges, float]]
    totals: Totals | None


_NOTHING = Observed({}, None)


class PrometheusSource:
    """Observes groups through Prometheus. ``groups`` are those that the loop orders, ``observed``
    the same ones as Prometheus sees them.

    Where the server does not answer, or a series is absent, stale or without a number, the metrics
    of all groups are missing. ``note`` is told when metrics go missing and when they are back.
    """

    def __init__(self, server: Prometheus, options: PrometheusOptions,
                 groups: Sequence[LiveGroup], observed: Sequence[ScrapedGroup],
                 service_class: ServiceClass, models: Sequence[str], clock: Callable[[], float],
                 note: Callable[[str], None]) -> None:
        self.problem: str | None = None
        self._server = server
        self._options = options
        self._groups = groups
        self._observed = observed
        self._clock = clock
        self._note = note
        self._server_s = float("-inf")
        self._is_known = False
        self._meters = [TotalsMeter() for _ in groups]
        self._demands = [EngineDemand(model, service_class.name, service_class.slo)
                         for model in models]
        self._seen = [_NOTHING for _ in groups]
        self._demand: tuple[SeenDemand, ...] | None = None

    async def read(self) -> None:
        """Ask the server."""
        try:
            await self._read()
            problem = None
        except PrometheusError as error:
            problem = str(error)
            self._seen, self._demand = [_NOTHING for _ in self._groups], None
        if (problem is None) != (self.problem is None):
            self._note(f"scaling.observe: {self._options.prometheus}: " + (
                "metrics are back" if problem is None else
                f"{problem}; metrics are missing, and the number of replicas stays"))
        self.problem = problem

    def seen(self, started_s: float, now_s: float) -> Observation | None:
        """Return the last reading. None before the first reading with replicas."""
        if not self._is_known:
            return None
        groups = tuple(
            SeenGroup(group.target, tuple(_replica(one, found, started_s)
                                          for one in group.replicas()), found.totals)
            for group, found in zip(self._groups, self._seen, strict=True))
        return Observation(now_s - started_s, groups, self._demand)

    async def _read(self) -> None:
        options, models = self._options, [group.model for group in self._observed]
        server_s, engines, down, counts = await asyncio.gather(
            self._server.time_s(), self._server.series(engines_query(options, models)),
            self._server.series(down_query(options)), self._arrivals())
        if server_s <= self._server_s:
            raise PrometheusError("answers with a time that does not go on")
        self._server_s = server_s
        figures = await asyncio.to_thread(read_figures, options, engines)
        arrivals = None if counts is None else counters_by_model(
            options, counts, models)
        names_down = [name for one in down if (name := replica_name(options, one))]
        by_group = [{key.name: found for key, found in figures.items() if key.model == group.model}
                    for group in self._observed]
        self._take(by_group, names_down, arrivals, server_s)

    async def _arrivals(self) -> list[Sample] | None:
        if self._options.arrivals is None:
            return None
        return await self._server.series(arrivals_query(self._options))

    def _take(self, by_group: list[dict[str, Figures]], down: list[str],
              arrivals: Mapping[str, Mapping[Hashable, float]] | None, server_s: float) -> None:
        """Take a reading: which replicas there are first, which is known even where more is
        missing."""
        now_s = self._clock()
        for group, ordered, found in zip(self._observed, self._groups, by_group, strict=True):
            may_be_empty = ordered.target == 0 and (self._is_known or group.may_begin_empty)
            if not found and not may_be_empty:
                raise PrometheusError(f"has no series of engines of {group.model}")
        for group, found in zip(self._observed, by_group, strict=True):
            group.see(sorted(found), down)
        self._is_known = True
        seen, demands = [], []
        for number, (group, found) in enumerate(zip(self._observed, by_group, strict=True)):
            self._meters[number].add({
                **{name: one.counters for name, one in found.items()},
                **dict.fromkeys(group.down_s)})
            seen.append(Observed(
                {group.number(name): (gauges, now_s - max(0.0, server_s - one.at_s))
                 for name, one in found.items() if (gauges := _gauges(one)) is not None},
                self._meters[number].totals()))
            demands.append(self._demand_of(number, found, seen[-1].totals, arrivals, now_s))
        self._seen, self._demand = seen, tuple(demands)

    def _demand_of(self, number: int, found: Mapping[str, Figures], totals: Totals | None,
                   arrivals: Mapping[str, Mapping[Hashable, float]] | None,
                   now_s: float) -> SeenDemand:
        group = self._observed[number]
        counters = None if arrivals is None else arrivals.get(group.model)
        if arrivals is not None and counters is None:
            raise PrometheusError(f"has no counter of arrivals of {group.model}")
        if counters is None and group.may_hide():
            raise PrometheusError(f"cannot scrape {', '.join(sorted(group.down_s)[:3])}")
        shown: dict[Hashable, Shown] = {
            name: Shown(one.counters.num_finished, load.num_running + (load.num_waiting or 0))
            for name, one in found.items()
            if one.counters is not None and (load := one.load).num_running is not None}
        if not shown and (found or counters is None):
            raise PrometheusError(f"has no counter of finished requests of {group.model}")
        return self._demands[number].add(now_s, shown, totals, counters)


def _gauges(one: Figures) -> Gauges | None:
    """Return the gauges of a replica, None where one is missing."""
    load = one.load
    if load.num_running is None or load.num_waiting is None or load.kv_used_share is None:
        return None
    return Gauges(load.num_running, load.num_waiting, load.kv_used_share)


def _replica(one: LiveReplica, found: Observed, started_s: float) -> SeenReplica:
    gauges = found.gauges.get(one.number) if one.state == "ready" else None
    if gauges is None:
        return SeenReplica(one.number, one.state, one.since_s - started_s)
    return SeenReplica(one.number, one.state, one.since_s - started_s, gauges[0],
                       gauges[1] - started_s)
