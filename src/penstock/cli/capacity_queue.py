"""``penstock capacity --method queue``: what each group's replicas sustain, as queues."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet, ReplicaGroup
    from penstock.plan.demands import Demand
    from penstock.workload.workload import Workload


def queue_document(fleet: "Fleet", workload: "Workload") -> dict[str, Any]:
    """The highest rate of one replica and of each group, by the model that a plan starts from.

    Raises InputError for replicas with a role, of which a queue tells nothing.
    """
    from penstock.core.errors import InputError
    from penstock.plan.demands import demands_of
    from penstock.policy.route.roles import BOTH

    if any(group.role != BOTH for group in fleet.replicas):
        raise InputError("--method queue: a queue is a replica that serves whole requests; "
                         "expected replicas without a role, or another method")
    groups = [_entry(fleet, demand, group) for demand in demands_of(fleet, (workload,))
              for group in fleet.replicas if group.model.name == demand.model.spec.name]
    return {"traffic_rate_per_s": workload.rate_per_s,
            "rate_per_s": sum(entry["rate_per_s"] for entry in groups), "groups": groups}


def _entry(fleet: "Fleet", demand: "Demand", group: "ReplicaGroup") -> dict[str, Any]:
    from penstock.plan.demands import part_of
    from penstock.plan.estimate import estimate
    from penstock.plan.variants import LeftOut, variant_name, variants_of

    names = group.service_classes
    if names is not None:
        demand = part_of(demand, tuple(c for c in demand.classes if c.name in names))
    variants, left_out = variants_of(fleet, demand.model, demand.longest_tokens, (group,),
                                     confidential=demand.confidential)
    name = variant_name(group)
    entry = {"model": group.model.name, "accelerator": group.accelerator.name, "variant": name,
             "service_classes": None if names is None else list(names), "count": group.count,
             "replica_rate_per_s": 0.0, "rate_per_s": 0.0, "limited_by": None, "bound_per_s": None}
    found = next((estimate(fleet, demand, v) for v in variants if v.name == name), None)
    if found is None or isinstance(found, LeftOut):
        reasons = [left.reason for left in (found, *left_out) if left and left.name == name]
        return {**entry, "limited_by": reasons[0]}
    return {**entry, "replica_rate_per_s": found.rate_per_s,
            "rate_per_s": found.rate_per_s * group.count, "limited_by": found.binding,
            "bound_per_s": found.bound_per_s}


def queue_tables(found: dict[str, Any]) -> list[Any]:
    """The groups and the sum, to be printed in order."""
    from penstock.report.model import wording
    from penstock.report.model.table import Column, table

    rows = [(f"{entry['model']} {entry['variant']}",
             ", ".join(entry["service_classes"] or ("all",)), entry["count"],
             wording.rate(entry["replica_rate_per_s"]), wording.rate(entry["rate_per_s"]),
             wording.rate(entry["bound_per_s"]), entry["limited_by"]) for entry in found["groups"]]
    groups = table(
        "Capacity of replicas as queues",
        ["replicas", Column("classes", left=True), "stated",
         "requests each", "requests", Column("bound each", 2),
         Column("limited by", 1, left=True)], rows)
    return [groups, f"traffic: {wording.rate(found['traffic_rate_per_s'], 'requests/s')}",
            f"all replicas together: {wording.rate(found['rate_per_s'], 'requests/s')}; by a "
            "model, not by simulation"]
