"""Headroom of a demand: the growth at which its replicas first miss an objective, by simulation."""

from dataclasses import replace
from functools import partial

from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.bisection import largest_count, largest_near
from penstock.plan.carried import saturation_per_s
from penstock.plan.demands import Demand
from penstock.plan.judge import holds, to_simulate
from penstock.plan.propose import Choice, Counts
from penstock.workload.mixing import scale_rate

MOST = 1.0
"""The largest headroom that is searched, as a part of the demand's rate."""

_PARTS = 32


def headroom(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], *,
             seed: int, most: float = MOST) -> float:
    """Return the largest growth of the rate, up to ``most``, at which every objective is still met.

    Growth is a part of today's rate; arrivals are time-compressed evenly. The growth holds with
    every seed, and 1/32 of ``most`` more does not. The replicas must hold without growth.
    """
    alone = [replace(demand, workloads=(workload,))
             for workload in to_simulate(fleet, groups, demand.workloads)]

    def meets(number: int, parts: int) -> bool:
        return meets_grown(fleet, alone[number], groups, parts * most / _PARTS, seed=seed + number)

    found = largest_count(partial(meets, 0), _PARTS, _PARTS)
    # A lower growth is confirmed with all seeds again: a schedule may miss at less than it holds.
    number, num_confirmed = 1, 1
    while num_confirmed < len(alone):
        lowered = largest_near(partial(meets, number % len(alone)), found)
        num_confirmed = num_confirmed + 1 if lowered == found else 1
        number, found = number + 1, lowered
    return found * most / _PARTS


def meets_grown(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], growth: float, *,
                seed: int, sigmas: float | None = None) -> bool:
    """Whether every objective is met at a growth of the rate. ``sigmas`` is as in ``judge``."""
    grown = replace(demand, workloads=tuple(scale_rate(workload, 1.0 + growth)
                                            for workload in demand.workloads))
    # The same requests count, though they arrive earlier.
    run = replace(fleet.run, warmup_s=fleet.run.warmup_s / (1.0 + growth))
    return holds(replace(fleet, run=run), grown, groups, seed=seed, sigmas=sigmas)


def most_growth(fleet: Fleet, choice: Choice, counts: Counts) -> float:
    """Return the growth at which lasting traffic reaches the throughput bound of its replicas, at
    most ``MOST``. A run that ends might meet its objectives with more while its queue only
    grows."""
    most_per_s = saturation_per_s(fleet, choice, counts)
    if not choice.demand.lasting or most_per_s is None:
        return MOST
    return min(MOST, max(0.0, most_per_s / choice.demand.lasting_per_s - 1.0))
