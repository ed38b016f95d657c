"""Headroom of a demand: the growth at which its replicas first miss an objective, by simulation."""

from dataclasses import replace

from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.bisection import largest_part
from penstock.plan.demands import Demand
from penstock.plan.judge import judge
from penstock.workload.mixing import scale_rate

MOST = 1.0
"""The largest headroom that is searched, as a part of the demand's rate."""

_STEPS = 5


def headroom(fleet: Fleet, demand: Demand, groups: tuple[ReplicaGroup, ...], *,
             seed: int, most: float = MOST) -> float:
    """The largest growth of the rate, up to ``most``, with which every objective is still met.

    Growth is a part of today's rate; arrivals are time-compressed evenly. Bisection finds it to
    within 1/32, with the first seed.
    """

    def holds(growth: float) -> bool:
        grown = replace(demand, workloads=(scale_rate(demand.sample, 1.0 + growth),))
        # The same requests count, though they arrive earlier.
        run = replace(fleet.run, warmup_s=fleet.run.warmup_s / (1.0 + growth))
        return judge(replace(fleet, run=run), grown, groups, seed=seed).meets

    return largest_part(holds, 0.0, most, _STEPS)
