"""Evaluation of a fleet's requests: counted and confidential requests, attainment, cost."""

from collections.abc import Mapping

import numpy as np

from penstock.fleet.values import Fleet
from penstock.metrics.attainment import Attainment
from penstock.metrics.definitions import BoolColumn
from penstock.metrics.misses import missed_targets
from penstock.metrics.table import RequestTable
from penstock.workload.workload import Workload


def counted(fleet: Fleet, table: RequestTable) -> RequestTable:
    """Return the requests that a run counts: all except arrivals during warm-up."""
    if fleet.run.warmup_s <= 0:
        return table
    return table.since(fleet.run.warmup_s)


def confidential_rows(fleet: Fleet, requests: RequestTable | Workload) -> BoolColumn:
    """Return a mask of confidential requests, by class or tenant."""
    secret = {one.name for one in fleet.service_classes if one.confidential}
    tenants = fleet.gateway.confidential_tenants
    of_class = np.array([name in secret for name in requests.service_classes], dtype=np.bool_)
    of_tenant = np.array([name in tenants for name in requests.tenants], dtype=np.bool_)
    mask: BoolColumn = np.zeros(len(requests), dtype=np.bool_)
    if len(requests):
        mask = of_class[requests.class_index] | of_tenant[requests.tenant_index]
    return mask


def cost_per_hour(fleet: Fleet) -> float:
    """Return the cost per hour of all replicas and of all multiplexed devices."""
    held = [(group.num_accelerators, group.accelerator) for group in fleet.replicas]
    held += [(pool.count, pool.accelerator) for pool in fleet.multiplexing]
    return sum(number * fleet.pool(accelerator.name).price_per_hour
               for number, accelerator in held)


def attainment_by_class(fleet: Fleet, table: RequestTable) -> dict[str, Attainment]:
    """Return the attainment of every class that received requests."""
    table = counted(fleet, table)
    found: dict[str, Attainment] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        if len(rows):
            found[service_class.name] = Attainment(int(rows.met_slo.sum()), len(rows))
    return found


def meets_all(fleet: Fleet, attainment: Mapping[str, Attainment]) -> bool:
    """Whether every class that received requests met its objective."""
    return all(found.meets(fleet.service_class(name).slo.percentile)
               for name, found in attainment.items())


def missed_by_class(fleet: Fleet, table: RequestTable) -> dict[str, dict[str, int]]:
    """Return, for every class that misses its objective, how many requests missed each target."""
    table = counted(fleet, table)
    found: dict[str, dict[str, int]] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        reached = Attainment(int(rows.met_slo.sum()), len(rows))
        if reached.meets(service_class.slo.percentile) is False:
            found[service_class.name] = missed_targets(rows, service_class.slo)
    return found
