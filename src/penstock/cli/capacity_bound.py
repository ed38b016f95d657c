"""``penstock capacity --method bound``: the rate that saturates each group of replicas."""

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.plan.counted_bound import CountedBound
    from penstock.plan.fleet_bound import GroupBound
    from penstock.workload.workload import Workload


def bounds_document(fleet: "Fleet", workload: "Workload") -> dict[str, Any]:
    """The bounds as plain data; ``rate_per_s`` of the fleet needs stated replicas."""
    from penstock.plan.counted_bound import accelerators_bound, replicas_bound
    from penstock.plan.fleet_bound import fleet_bound_per_s, group_bounds

    bounds = group_bounds(fleet, workload)
    groups = [_entry(fleet, found, workload) for found in bounds]
    shares = sum(entry["traffic_share"] for entry in groups)
    # Groups that share requests could each take all of them: no one sum is needed.
    summed = shares <= 1 + 1e-9
    most = accelerators_bound(fleet, bounds)
    return {"rate_per_s": fleet_bound_per_s(fleet, workload) if fleet.replicas else None,
            "accelerators_rate_per_s": None if most is None else most.rate_per_s,
            "binds": _binds(replicas_bound(fleet, bounds) if fleet.replicas else most),
            "traffic_rate_per_s": workload.rate_per_s,
            "replicas_needed": sum(entry["replicas_needed"] for entry in groups)
            if summed else None,
            "accelerators": _accelerators(fleet, groups) if summed else [],
            "groups": groups}


def _entry(fleet: "Fleet", found: "GroupBound", workload: "Workload") -> dict[str, Any]:
    from penstock.plan.counted_bound import most_replicas
    from penstock.plan.sizing import replicas_at_bound

    group, limit = found.group, found.bound
    return {"model": group.model.name, "accelerator": group.accelerator.name,
            "accelerators_each": group.parallelism.num_accelerators,
            "service_classes": None if group.service_classes is None
            else list(group.service_classes),
            "count": group.count if fleet.replicas else None,
            "most_replicas": most_replicas(fleet, found), "traffic_share": found.share,
            "replica_rate_per_s": limit.rate_per_s, "step_tokens": limit.step_tokens,
            "decode_seqs": limit.decode_seqs, "kv_limited": limit.kv_limited,
            "kv_gain": limit.kv_gain, "binds": limit.binds, "busiest": limit.busiest,
            "replicas_needed": replicas_at_bound(found.share * workload.rate_per_s,
                                                 limit.rate_per_s)}


def _binds(found: "CountedBound | None") -> dict[str, Any] | None:
    """The stated count that limits the fleet, and what limits the replicas that give way first."""
    return None if found is None else {
        "count": found.binds,
        "groups": [f"{one.group.model.name} on {one.group.accelerator.name}"
                   for one in found.first],
        "resources": list(dict.fromkeys(one.bound.binds for one in found.first))}


def _accelerators(fleet: "Fleet", groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Accelerators that this traffic needs at the bound, beside those that the file states."""
    needed: Counter[str] = Counter()
    for entry in groups:
        needed[entry["accelerator"]] += entry["replicas_needed"] * entry["accelerators_each"]
    return [{"name": name, "count": fleet.pool(name).count, "needed": number}
            for name, number in needed.items()]


def bound_tables(found: dict[str, Any]) -> list[Any]:
    """The groups and the sums, to be printed in order."""
    from penstock.report.model.table import Column, table

    stated = any(entry["count"] for entry in found["groups"])
    held = any(entry["most_replicas"] is not None for entry in found["groups"])
    groups = table(
        "Throughput bound",
        ["replicas", Column("classes", left=True), *(["stated"] if stated else []),
         *(["possible"] if held else []), "needed", "requests each", Column("of traffic", 2),
         Column("tokens per step", 3), Column("decodes per step", 3),
         Column("limited by", 1, left=True)],
        [_row(entry, stated=stated, held=held) for entry in found["groups"]])
    return [groups, *_sentences(found)]


def _row(entry: dict[str, Any], *, stated: bool, held: bool) -> tuple[Any, ...]:
    from penstock.report.model import wording

    most = entry["most_replicas"]
    return (f"{entry['model']} on {entry['accelerator']}",
            ", ".join(entry["service_classes"] or ("all",)),
            *([str(entry["count"])] if stated else []),
            *([wording.ABSENT if most is None else f"{most:,}"] if held else []),
            entry["replicas_needed"], wording.rate(entry["replica_rate_per_s"]),
            wording.percent(entry["traffic_share"], 1), f"{entry['step_tokens']:,}",
            f"{entry['decode_seqs']:.0f}", entry["binds"])


def _sentences(found: dict[str, Any]) -> list[str]:
    from penstock.report.model import wording

    def rate(value: float) -> str:
        return wording.rate(value, "requests/s")

    lines = [f"traffic: {rate(found['traffic_rate_per_s'])}"]
    if found["rate_per_s"] is not None:
        lines.append(f"all replicas together: {rate(found['rate_per_s'])}")
    most = found["accelerators_rate_per_s"]
    if most is not None:
        lines.append("as many replicas as the stated accelerators hold: "
                     f"{rate(most) if most else 'they hold not one replica of each group'}")
    if (binds := found["binds"]) is not None:
        lines.append(f"what binds: {binds['count']} of {', '.join(binds['groups'])}; in each "
                     f"replica {' or '.join(binds['resources'])}")
    if found["replicas_needed"] is not None:
        lines.append(f"needed for this traffic at the bound: "
                     f"{wording.replicas(found['replicas_needed'])}")
    lines += [f"{entry['needed']:,} {entry['name']} needed, {entry['count']:,} stated: too few "
              "for this traffic" for entry in found["accelerators"]
              if entry["count"] is not None and entry["needed"] > entry["count"]]
    return lines
