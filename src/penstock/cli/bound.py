"""``penstock bound``: the rate that saturates each group of replicas, deadlines ignored."""

from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson, DataDir, FleetFile, Seed, Settings, read_fleet

if TYPE_CHECKING:
    from penstock.experiment.fleet_bound import GroupBound
    from penstock.fleet.values import Fleet
    from penstock.workload.workload import Workload

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock bound examples/silo.yaml")
def bound(fleet_file: FleetFile, settings: Settings = None, data: DataDir = None,
          seed: Seed = None, as_json: AsJson = False) -> int:
    """Print the throughput bound of every replica group: what it could compute if nothing was due.

    No policy exceeds it in the long run; capacity says how much of it meets the objectives.
    """
    from penstock.cli.console import print_json, print_tables
    from penstock.fleet.sources import fleet_workload

    fleet = read_fleet(fleet_file, settings, data, seed)
    found = bounds_document(fleet, fleet_workload(fleet))
    if as_json:
        print_json(found)
    else:
        print_tables(_tables(found))
    return OK


def bounds_document(fleet: "Fleet", workload: "Workload") -> dict[str, Any]:
    """The bounds as plain data; ``rate_per_s`` of the fleet needs stated replicas."""
    from penstock.experiment.fleet_bound import fleet_bound_per_s, group_bounds

    return {"rate_per_s": fleet_bound_per_s(fleet, workload) if fleet.replicas else None,
            "traffic_rate_per_s": workload.rate_per_s,
            "groups": [_entry(fleet, found) for found in group_bounds(fleet, workload)]}


def _entry(fleet: "Fleet", found: "GroupBound") -> dict[str, Any]:
    group, limit = found.group, found.bound
    return {"model": group.model.name, "accelerator": group.accelerator.name,
            "service_classes": None if group.service_classes is None
            else list(group.service_classes),
            "count": group.count if fleet.replicas else None, "traffic_share": found.share,
            "replica_rate_per_s": limit.rate_per_s, "step_tokens": limit.step_tokens,
            "decode_seqs": limit.decode_seqs, "kv_limited": limit.kv_limited}


def _tables(found: dict[str, Any]) -> list[Any]:
    from penstock.report.tables import plain_table

    rows = [(f"{entry['model']} on {entry['accelerator']}",
             ", ".join(entry["service_classes"] or ("all",)), entry["count"] or "not stated",
             f"{entry['traffic_share']:.1%}", f"{entry['replica_rate_per_s']:.3f}",
             f"{entry['step_tokens']:,}", f"{entry['decode_seqs']:.1f}",
             "KV cache" if entry["kv_limited"] else "compute") for entry in found["groups"]]
    table = plain_table(
        "Throughput bound", ("replicas", "classes", "count", "of traffic", "requests/s each",
                             "tokens per step", "decodes per step", "limited by"), rows)
    lines = [f"traffic: {found['traffic_rate_per_s']:.3f} requests/s"]
    if found["rate_per_s"] is not None:
        lines.append(f"all replicas together: {found['rate_per_s']:.3f} requests/s")
    return [table, *lines]
