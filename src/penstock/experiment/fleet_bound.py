"""The throughput bound of a whole fleet, from those of its groups."""

from dataclasses import dataclass

import numpy as np

from penstock.experiment.sizing import rows_served
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.plan.bound import ThroughputBound, throughput_bound
from penstock.workload.select import select
from penstock.workload.workload import Workload


@dataclass(frozen=True, slots=True)
class GroupBound:
    """Throughput bound of one replica of a group for the requests that the group serves.

    ``share`` is the part of all requests that the group serves.
    """

    group: ReplicaGroup
    share: float
    bound: ThroughputBound


def group_bounds(fleet: Fleet, workload: Workload) -> list[GroupBound]:
    """A bound per replica group, or per sizing group where no replicas are stated.

    Groups without traffic are left out. Raises InputError as ``throughput_bound`` does.
    """
    bounds = []
    for group in fleet.replicas or fleet.sizing.kinds():
        rows = rows_served(group, workload)
        if rows.any():
            bound = throughput_bound(fleet, group, select(workload, rows))
            bounds.append(GroupBound(group, float(rows.mean()), bound))
    return bounds


def fleet_bound_per_s(fleet: Fleet, workload: Workload) -> float | None:
    """Requests per second of all traffic that the stated replicas could compute.

    Groups that serve the very same requests add up; the slowest of groups that share none decides.
    None where groups overlap in part, which no formula this simple covers.
    """
    totals: dict[bytes, float] = {}
    covered = np.zeros(len(workload), dtype=np.int64)
    for found in group_bounds(fleet, workload):
        rows = rows_served(found.group, workload)
        key = rows.tobytes()
        covered += rows if key not in totals else 0
        rate_per_s = found.group.count * found.bound.rate_per_s / found.share
        totals[key] = totals.get(key, 0.0) + rate_per_s
    return min(totals.values(), default=None) if covered.max(initial=0) <= 1 else None
