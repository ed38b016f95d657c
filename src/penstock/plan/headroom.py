"""Headroom of a demand: the growth at which its replicas first miss an objective, by simulation."""

from dataclasses import replace

from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.bisection import largest_part
from penstock.plan.demands import Demand
from penstock.plan.judge import distinct, holds
from penstock.plan.propose import Choice, Counts
from penstock.workload.mixing import scale_rate

MOST = 1.0
"""The largest headroom that is searched, as a part of the demand's rate."""

_LEAST = -0.5
_STEPS = 5
_COARSE_STEPS = 3


def headroom(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], *,
             seed: int, most: float = MOST, sigmas: float | None = None) -> float:
    """Return the largest growth of the rate, up to ``most``, at which every objective is still met.

    Growth is a part of today's rate; arrivals are time-compressed evenly. Bisection finds the
    growth that holds with every seed, to within 1/32. ``sigmas`` is as in ``judge``; where it is
    stated, the growth is coarser, and may be negative, down to a half.
    """

    def grows(growth: float) -> bool:
        grown = replace(demand, workloads=tuple(scale_rate(workload, 1.0 + growth)
                                                for workload in distinct(demand.workloads)))
        # The same requests count, though they arrive earlier.
        run = replace(fleet.run, warmup_s=fleet.run.warmup_s / (1.0 + growth))
        return holds(replace(fleet, run=run), grown, groups, seed=seed, sigmas=sigmas)

    if sigmas is not None and not grows(0.0):
        return largest_part(grows, _LEAST, 0.0, _COARSE_STEPS)
    return largest_part(grows, 0.0, most, _STEPS if sigmas is None else _COARSE_STEPS)


def most_growth(choice: Choice, counts: Counts) -> float:
    """Return the growth at which lasting traffic reaches the throughput bound of its replicas, at
    most ``MOST``. A run that ends might meet its objectives with more while its queue only
    grows."""
    bounds = [(count, choice.candidate(variant).bound_per_s) for variant, count in counts]
    if not choice.demand.lasting or any(not bound for _, bound in bounds):
        return MOST
    total_per_s = sum(count * (bound or 0.0) for count, bound in bounds)
    return min(MOST, max(0.0, total_per_s / choice.demand.rate_per_s - 1.0))
