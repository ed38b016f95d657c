"""Sources of observations for a live scaling loop, and the gateway itself as a source."""

from collections.abc import Sequence
from typing import Protocol

from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.serving.scaling.groups import LiveGroup
from penstock.serving.scaling.totals import CountersReader, TotalsMeter


class Source(Protocol):
    """Origin of the observations of a fleet."""

    @property
    def problem(self) -> str | None:
        """Reason why metrics are missing, None where they are here."""

    async def read(self) -> None:
        """Read the metrics that the next observation needs."""

    def seen(self, started_s: float, now_s: float) -> Observation | None:
        """Return what is known at ``now_s``, with times that count from ``started_s``. None where
        not even the number of replicas is known."""


class GatewaySource:
    """Observes the engines that the gateway polls, and the requests that the gateway counts.

    ``reader`` reads the counters of engines; None where the scaler needs none.
    """

    problem = None

    def __init__(self, groups: Sequence[LiveGroup], demand: DemandMeter,
                 reader: CountersReader | None = None) -> None:
        self._groups = groups
        self._demand = demand
        self._reader = reader
        self._meters = [TotalsMeter() for _ in groups]

    async def read(self) -> None:
        """Read the counters of the engines that serve or drain."""
        if self._reader is None:
            return
        urls = [[one.engine.facts.url for one in group.replicas() if one.engine is not None
                 and one.state in ("ready", "draining")] for group in self._groups]
        found = await self._reader.read(url for own in urls for url in own)
        for meter, own in zip(self._meters, urls, strict=True):
            meter.add({url: found[url] for url in own})

    def seen(self, started_s: float, now_s: float) -> Observation:
        """Return what the gateway knows now."""
        groups = tuple(SeenGroup(group.target, tuple(one.seen(started_s, now_s)
                                                     for one in group.replicas()), meter.totals())
                       for group, meter in zip(self._groups, self._meters, strict=True))
        return Observation(now_s - started_s, groups, self._demand.seen())
