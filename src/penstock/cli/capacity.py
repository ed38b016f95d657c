"""``penstock capacity``: the highest request rate that meets every class's share."""

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import MISSED, OK
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    NumReplicas,
    NumSeeds,
    Seed,
    Settings,
    read_fleet,
    seed_range,
    with_replicas,
)

if TYPE_CHECKING:
    from penstock.experiment.capacity import Capacity, Probe

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: penstock capacity examples/niyama-code.yaml --seeds 3 --low 3")
def capacity(
    fleet_file: FleetFile,
    attainment: Annotated[float, typer.Option(
        "--attainment", metavar="SHARE", help="Share of each class's requests that must meet "
        "every target.")] = 0.99,
    tolerance: Annotated[float, typer.Option(
        "--tolerance", metavar="SHARE", help="Stop when the bracket is this narrow, relative to "
        "the rate.")] = 0.01,
    seeds: NumSeeds = 1,
    low: Annotated[float | None, typer.Option(
        "--low", metavar="RATE", show_default=False,
        help="Rate to start from; default: the file's own.")] = None,
    high: Annotated[float | None, typer.Option(
        "--high", metavar="RATE", show_default=False, help="Highest rate to try.")] = None,
    replicas: NumReplicas = None, settings: Settings = None, data: DataDir = None,
    seed: Seed = None, as_json: AsJson = False,
) -> int:
    """Search the highest request rate that the fleet's replicas sustain.

    Each seed's requests are drawn once and pressed or stretched in time. Also prints the
    throughput bound and how much of it the capacity is. Exit status 1 when no rate meets.
    """
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.experiment.capacity import find_capacity

    stated = read_fleet(fleet_file, settings, data, seed)
    fleet = with_replicas(stated, replicas)
    with progress("searching") as update:

        def on_probe(probe: "Probe") -> None:
            update(f"seed {probe.seed}: {probe.rate_per_s:.3f}/s {probe.worst:.2%}")

        found = find_capacity(fleet, seed_range(fleet, seeds), share=attainment,
                              tolerance=tolerance, low_per_s=low, high_per_s=high,
                              on_probe=on_probe)
    document = _document(found, fleet)
    if as_json:
        print_json(document)
    else:
        print_tables(_tables(document))
    return OK if min(found.by_seed) > 0 else MISSED


def _document(found: "Capacity", fleet: Any) -> dict[str, Any]:
    from penstock.experiment.disclosed import told_share
    from penstock.experiment.enough import fields_to_raise, longest_target_s

    limit = _bound_per_s(fleet)
    seeds = list(seed_range(fleet, len(found.by_seed)))
    return {
        "name": fleet.name, "attainment": found.share, "rate_per_s": found.rate_per_s,
        "half_width_per_s": found.half_width_per_s,
        "by_seed": [{"seed": seed, "rate_per_s": rate,
                     "bound_per_s": bound if bound < math.inf else None}
                    for seed, rate, bound in zip(seeds, found.by_seed, found.bounds, strict=True)],
        "bound_per_s": limit, "share_of_bound": found.rate_per_s / limit if limit else None,
        "reached_bound": found.reached_bound, "longest_target_s": longest_target_s(fleet),
        "raise_to": fields_to_raise(fleet, min(found.num_requests), max(found.by_seed))
        if found.reached_bound else {},
        "probes": [{"seed": probe.seed, "rate_per_s": probe.rate_per_s, "meets": probe.meets,
                    "attainment": {name: told_share(fleet, name, share.share)
                                   for name, share in probe.attainment.items()}}
                   for probe in found.probes]}


def _bound_per_s(fleet: Any) -> float | None:
    """The fleet's throughput bound, None where its step time has no closed form."""
    from penstock.core.errors import InputError
    from penstock.fleet.sources import fleet_workload
    from penstock.plan.fleet_bound import fleet_bound_per_s

    try:
        return fleet_bound_per_s(fleet, fleet_workload(fleet))
    except InputError:
        return None


def _tables(document: dict[str, Any]) -> list[Any]:
    from penstock.report import wording
    from penstock.report.cells import verdict_cell
    from penstock.report.tables import plain_table

    classes = list(document["probes"][0]["attainment"]) if document["probes"] else []
    probes = plain_table(
        "Rates tried", ("seed", "requests/s", *classes, "verdict"),
        [(probe["seed"], f"{probe['rate_per_s']:,.3f}",
          *(wording.percent(probe["attainment"].get(name)) for name in classes),
          verdict_cell(probe["meets"])) for probe in document["probes"]])
    seeds = plain_table("Capacity by seed", ("seed", "requests/s"),
                        [(entry["seed"], f"{entry['rate_per_s']:,.3f}")
                         for entry in document["by_seed"]])
    return [probes, seeds, _headline(document)]


def _headline(document: dict[str, Any]) -> str:
    from penstock.report import wording

    half = document["half_width_per_s"]
    text = f"capacity {document['rate_per_s']:.3f} requests/s at {document['attainment']:.4g} " \
           "attainment in every class"
    if half is not None:
        text += f", 95 % interval ± {half:.3f}"
    if document["bound_per_s"]:
        text += f"\nthroughput bound {document['bound_per_s']:.3f} requests/s; reached " \
                f"{wording.percent(document['share_of_bound'], 1)} of it"
    if document["raise_to"]:
        fields = " and ".join(f"{name} to {value:,} or more"
                              for name, value in document["raise_to"].items())
        text += ("\nthe search stopped at the bound: the requests are too few to miss a target of "
                 f"{wording.seconds(document['longest_target_s'])}:\nraise {fields}")
    return text
