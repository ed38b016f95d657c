"""The throughput bound of a whole fleet, from those of its groups."""

from dataclasses import dataclass

import numpy as np

from penstock.fleet.multiplexing import usual_batch
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.fleet.values_multiplexing import DevicePool, SwappedModel
from penstock.plan.bound import ThroughputBound, throughput_bound
from penstock.workload.select import select
from penstock.workload.workload import Workload

Rows = np.ndarray[tuple[int], np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class GroupBound:
    """Throughput bound of one replica of a group for the requests that the group serves.

    ``rows`` is the mask of these requests, shape (requests,).
    """

    group: ReplicaGroup
    rows: Rows
    bound: ThroughputBound

    @property
    def share(self) -> float:
        """The part of all requests that the group serves."""
        return float(self.rows.mean())


def rows_served(group: ReplicaGroup, workload: Workload) -> Rows:
    """Mask of the requests that the group's replicas may take."""
    models = [index for index, name in enumerate(workload.models) if name == group.model.name]
    rows = np.isin(workload.model_index, models)
    if group.service_classes is not None:
        classes = [index for index, name in enumerate(workload.service_classes)
                   if name in group.service_classes]
        rows &= np.isin(workload.class_index, classes)
    return rows


def group_bounds(fleet: Fleet, workload: Workload) -> list[GroupBound]:
    """A bound per replica group, or per sizing group where no replicas are stated.

    Groups without traffic are left out. Raises InputError as ``throughput_bound`` does.
    """
    bounds = []
    for group in fleet.replicas or fleet.sizing.kinds():
        rows = rows_served(group, workload)
        if rows.any():
            bound = throughput_bound(fleet, group, select(workload, rows))
            bounds.append(GroupBound(group, rows, bound))
    return bounds


def fleet_bound_per_s(fleet: Fleet, workload: Workload) -> float | None:
    """Requests per second of all traffic that the stated replicas and pools could compute.

    Groups that serve exactly the same requests add up. Of groups and pools without common requests
    the slowest decides. None where groups share some requests only: this formula does not cover it.
    """
    bounds = [_pool_bound_per_s(fleet, pool, workload) for pool in fleet.multiplexing]
    if fleet.replicas or not fleet.multiplexing:
        bounds.append(_replicas_bound_per_s(fleet, workload))
    return min((bound for bound in bounds if bound is not None), default=None)


def _replicas_bound_per_s(fleet: Fleet, workload: Workload) -> float | None:
    totals: dict[bytes, float] = {}
    covered = np.zeros(len(workload), dtype=np.int64)
    for found in group_bounds(fleet, workload):
        key = found.rows.tobytes()
        covered += found.rows if key not in totals else 0
        rate_per_s = found.group.count * found.bound.rate_per_s / found.share
        totals[key] = totals.get(key, 0.0) + rate_per_s
    return min(totals.values(), default=None) if covered.max(initial=0) <= 1 else None


def _pool_bound_per_s(fleet: Fleet, pool: DevicePool, workload: Workload) -> float | None:
    """The rate at which computing alone keeps a pool's devices busy, with every model loaded on
    every device. No schedule of loads reaches a higher rate. Only requests that no other group or
    pool can serve count; None where there are none."""
    elsewhere = {group.model.name for group in fleet.replicas}
    elsewhere.update(model.spec.name for other in fleet.multiplexing if other is not pool
                     for model in other.models)
    busy_s = 0.0
    for model in pool.models:
        asked = [index for index, name in enumerate(workload.models) if name == model.spec.name]
        rows = np.isin(workload.model_index, asked)
        if model.spec.name not in elsewhere and rows.any():
            busy_s += float(rows.sum()) * _least_s(fleet, pool, model, select(workload, rows))
    return pool.count * len(workload) / busy_s if busy_s > 0.0 else None


def _least_s(fleet: Fleet, pool: DevicePool, model: SwappedModel, workload: Workload) -> float:
    """The least device seconds of a request: its share of the largest batch."""
    if not pool.continuous and model.batch != usual_batch(model.spec, pool.accelerator,
                                                          model.precision):
        return model.batch.seconds(model.max_batch) / model.max_batch
    group = ReplicaGroup(model.spec, pool.accelerator, precision=model.precision)
    return 1.0 / throughput_bound(fleet, group, workload).rate_per_s
