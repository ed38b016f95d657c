"""What a fleet's requests came to: which count, how many met their targets, what it cost."""

from penstock.fleet.values import Fleet
from penstock.metrics.attainment import Attainment
from penstock.metrics.misses import missed_targets
from penstock.metrics.table import RequestTable


def counted(fleet: Fleet, table: RequestTable) -> RequestTable:
    """The requests that a run counts: all but those that arrive while it warms up."""
    if fleet.run.warmup_s <= 0:
        return table
    return table.take(table.arrival_s >= fleet.run.warmup_s)


def cost_per_hour(fleet: Fleet) -> float:
    """What all replicas cost per hour."""
    return sum(group.num_accelerators * fleet.pool(group.accelerator.name).price_per_hour
               for group in fleet.replicas)


def attainment_by_class(fleet: Fleet, table: RequestTable) -> dict[str, Attainment]:
    """Attainment of every class that received requests."""
    table = counted(fleet, table)
    found: dict[str, Attainment] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        if len(rows):
            found[service_class.name] = Attainment(int(rows.met_slo.sum()), len(rows))
    return found


def missed_by_class(fleet: Fleet, table: RequestTable) -> dict[str, dict[str, int]]:
    """Per class that misses its objective, how many requests missed which target."""
    table = counted(fleet, table)
    found: dict[str, dict[str, int]] = {}
    for service_class in fleet.service_classes:
        rows = table.of_class(service_class.name)
        reached = Attainment(int(rows.met_slo.sum()), len(rows))
        if reached.meets(service_class.slo.percentile) is False:
            found[service_class.name] = missed_targets(rows, service_class.slo)
    return found
