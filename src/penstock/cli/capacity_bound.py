"""``penstock capacity --method bound``: the rate that saturates each group of replicas."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.plan.fleet_bound import GroupBound
    from penstock.workload.workload import Workload


def bounds_document(fleet: "Fleet", workload: "Workload") -> dict[str, Any]:
    """The bounds as plain data; ``rate_per_s`` of the fleet needs stated replicas."""
    from penstock.plan.fleet_bound import fleet_bound_per_s, group_bounds

    groups = [_entry(fleet, found, workload) for found in group_bounds(fleet, workload)]
    shares = sum(entry["traffic_share"] for entry in groups)
    return {"rate_per_s": fleet_bound_per_s(fleet, workload) if fleet.replicas else None,
            "traffic_rate_per_s": workload.rate_per_s,
            # Groups that share requests could each take all of them: no one sum is needed.
            "replicas_needed": sum(entry["replicas_needed"] for entry in groups)
            if shares <= 1 + 1e-9 else None,
            "groups": groups}


def _entry(fleet: "Fleet", found: "GroupBound", workload: "Workload") -> dict[str, Any]:
    from penstock.plan.sizing import replicas_at_bound

    group, limit = found.group, found.bound
    return {"model": group.model.name, "accelerator": group.accelerator.name,
            "service_classes": None if group.service_classes is None
            else list(group.service_classes),
            "count": group.count if fleet.replicas else None, "traffic_share": found.share,
            "replica_rate_per_s": limit.rate_per_s, "step_tokens": limit.step_tokens,
            "decode_seqs": limit.decode_seqs, "kv_limited": limit.kv_limited,
            "replicas_needed": replicas_at_bound(found.share * workload.rate_per_s,
                                                 limit.rate_per_s)}


def bound_tables(found: dict[str, Any]) -> list[Any]:
    """The groups and the sums, to be printed in order."""
    from penstock.report.model import wording
    from penstock.report.model.table import Column, table

    stated = any(entry["count"] for entry in found["groups"])
    rows = [(f"{entry['model']} on {entry['accelerator']}",
             ", ".join(entry["service_classes"] or ("all",)),
             *([str(entry["count"])] if stated else []), entry["replicas_needed"],
             wording.rate(entry["replica_rate_per_s"]), wording.percent(entry["traffic_share"], 1),
             f"{entry['step_tokens']:,}", f"{entry['decode_seqs']:.0f}",
             "KV cache" if entry["kv_limited"] else "compute") for entry in found["groups"]]
    groups = table(
        "Throughput bound",
        ["replicas", Column("classes", left=True), *(["stated"] if stated else []),
         "needed", "requests each", Column("of traffic", 2),
         Column("tokens per step", 3), Column("decodes per step", 3),
         Column("limited by", 1, left=True)], rows)
    rate = f"{wording.rate(found['traffic_rate_per_s'], 'requests/s')}"
    lines = [f"traffic: {rate}"]
    if found["rate_per_s"] is not None:
        lines.append("all replicas together: "
                     f"{wording.rate(found['rate_per_s'], 'requests/s')}")
    if found["replicas_needed"] is not None:
        lines.append(f"needed for this traffic at the bound: "
                     f"{wording.replicas(found['replicas_needed'])}")
    return [groups, *lines]
