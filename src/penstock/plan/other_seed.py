"""Traffic of another seed than those of a plan, for a second look at what holds."""

from dataclasses import replace
from math import ceil

from penstock.fleet.sources import DEFAULT_NUM_REQUESTS, fleet_workload
from penstock.fleet.values import Fleet
from penstock.plan.demands import Demand, redrawn
from penstock.plan.judge import chance, distinct
from penstock.workload.mixing import scale_rate
from penstock.workload.workload import Workload

AGAIN = 1000
"""Distance from the plan's seeds to the other one."""

_ENOUGH = 2000
"""Requests of the second look at lasting traffic, at least. A queue that grows slowly, and rare
crowds, do not show in the few hundred requests of a short run."""

LONGEST_S = 1e6
"""Longest traffic that a plan makes: well within what the simulator's clock counts."""


class OtherSeed:
    """Draws a fleet's traffic with another seed than ``workloads``, once a demand asks for it.

    Where all traffic is drawn at rates that are meant to last, few requests are drawn on. Drawn
    requests arrive slightly faster, as their rate may be too low by chance.
    """

    def __init__(self, fleet: Fleet, workloads: tuple[Workload, ...]) -> None:
        self._fleet = fleet
        self._first = workloads[0]
        self._other: Workload | None = None

    def of(self, demand: Demand) -> Demand | None:
        """Return a demand with its requests of the other seed, None where seeds change nothing."""
        if self._other is None:
            fleet, times = self._fleet, ceil(_ENOUGH / len(self._first))
            if times > 1 and _goes_on(fleet) and times * self._first.duration_s < LONGEST_S:
                fleet = _longer(fleet, times)
            self._other = fleet_workload(fleet, fleet.run.seed + AGAIN)
        if len(distinct((self._first, self._other))) == 1:
            return None
        found = redrawn(demand, (self._other,))
        return replace(found, workloads=tuple(scale_rate(one, 1.0 + chance(one))
                                              for one in found.workloads))


def _goes_on(fleet: Fleet) -> bool:
    return all(spec.arrivals is not None and spec.rate_per_s is not None and not spec.start_s
               for spec in fleet.traffic)


def _longer(fleet: Fleet, times: int) -> Fleet:
    """Return the fleet with traffic that goes on for so many times as long."""
    run = fleet.run
    if run.num_requests is None and run.duration_s is None:
        traffic = tuple(replace(
            spec, duration_s=None if spec.duration_s is None else times * spec.duration_s,
            num_requests=times * spec.num_requests if spec.num_requests is not None
            else None if spec.duration_s is not None else times * DEFAULT_NUM_REQUESTS)
            for spec in fleet.traffic)
        return replace(fleet, traffic=traffic)
    return replace(fleet, run=replace(
        run, num_requests=None if run.num_requests is None else times * run.num_requests,
        duration_s=None if run.duration_s is None else times * run.duration_s))
