"""``penstock capacity``: the highest request rate that meets every class's share."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.executor import executor
from penstock.cli.exits import MISSED, OK
from penstock.cli.files import library, write_whole
from penstock.cli.fleets import fixed, read_fleet, refuse_multiplexing, seed_range, with_replicas
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    Html,
    Jobs,
    NumReplicas,
    NumSeeds,
    On,
    Seed,
    SelfContained,
    Settings,
    Tolerance,
)
from penstock.core.errors import InputError, nearest

if TYPE_CHECKING:
    from penstock.experiment.capacity import Capacity, Probe
    from penstock.experiment.workers import Executor
    from penstock.fleet.values import Fleet

SIMULATE, BOUND, QUEUE = "simulate", "bound", "queue"
METHODS = (SIMULATE, BOUND, QUEUE)
Method = Annotated[str, typer.Option(
    "--method", metavar="NAME", help="simulate: search by simulation; bound: the rate that no "
                                     "policy exceeds; queue: estimate by an analytic queue.")]
Attainment = Annotated[float, typer.Option(
    "--attainment", metavar="SHARE",
    help="Share of each class's requests that must meet every target.")]
Low = Annotated[float | None, typer.Option(
    "--low", metavar="RATE", show_default=False,
    help="Rate to start from; default: the file's own.")]
High = Annotated[float | None, typer.Option(
    "--high", metavar="RATE", show_default=False, help="Highest rate to try.")]

app = App()


@app.command(epilog="Example: penstock capacity examples/niyama-code.yaml --seeds 3 --low 3\n\n"
                    "Example: penstock capacity examples/silo.yaml --method bound")
def capacity(
    fleet_file: FleetFile, method: Method = SIMULATE, replicas: NumReplicas = None,
    attainment: Attainment = 0.99, seeds: NumSeeds = 1, tolerance: Tolerance = 0.01,
    low: Low = None, high: High = None, settings: Settings = None,
    data: DataDir = None, seed: Seed = None, as_json: AsJson = False,
    jobs: Jobs = 0, on: On = None,
    html: Html = None, self_contained: SelfContained = False,
) -> int:
    """Find the highest request rate that the fleet's replicas sustain.

    Simulates the same requests with scaled arrival times; prints the capacity and the throughput
    bound. --html writes a page: latency and goodput against rate. --method bound prints only the
    throughput bound of every group, the rate that the replicas could compute without deadlines,
    with the counts that the file states, and what binds. --method queue estimates the rate without
    simulation. Exit status 1 if no rate meets the targets.
    """
    if method not in METHODS:
        raise InputError(f"--method {method[:60]!r}{nearest(method[:60], METHODS)}")
    fleet = fixed(read_fleet(fleet_file, settings, data, seed), replicas)
    if method == SIMULATE:
        fleet = with_replicas(fleet, replicas)
        return _simulated(fleet, seed_range(fleet, seeds), attainment, tolerance, low, high,
                          html, library(self_contained), executor(jobs, on), as_json=as_json)
    refuse_multiplexing(fleet, f"penstock capacity --method {method}",
                 f"penstock capacity --method {SIMULATE}")
    _refuse({"--attainment": attainment != 0.99, "--tolerance": tolerance != 0.01,
             "--seeds": seeds != 1, "--low": low is not None, "--high": high is not None,
             "--html": html is not None}, method)
    if method == BOUND:
        return _bound(fleet if replicas is None else with_replicas(fleet, replicas),
                      as_json=as_json)
    return _queue(with_replicas(fleet, replicas), as_json=as_json)


def _refuse(given: dict[str, bool], method: str) -> None:
    for name, stated in given.items():
        if stated:
            raise InputError(f"{name}: has no meaning beside --method {method}; leave it out")


def _bound(fleet: "Fleet", *, as_json: bool) -> int:
    from penstock.cli.capacity_bound import bound_tables, bounds_document
    from penstock.cli.console import print_json, print_tables
    from penstock.fleet.sources import fleet_workload

    found = bounds_document(fleet, fleet_workload(fleet))
    if as_json:
        print_json(found)
    else:
        print_tables(bound_tables(found))
    return OK


def _queue(fleet: "Fleet", *, as_json: bool) -> int:
    from penstock.cli.capacity_queue import queue_document, queue_tables
    from penstock.cli.console import print_json, print_tables
    from penstock.fleet.sources import fleet_workload
    from penstock.fleet.traffic import check_open

    check_open(fleet.traffic, "an analytic queue")
    found = queue_document(fleet, fleet_workload(fleet))
    if as_json:
        print_json(found)
    else:
        print_tables(queue_tables(found))
    return OK if all(entry["rate_per_s"] > 0 for entry in found["groups"]) else MISSED


def _simulated(fleet: "Fleet", seeds: range, attainment: float, tolerance: float,
               low: float | None, high: float | None, html: Path | None, library: str | None,
               where: "Executor", *, as_json: bool) -> int:
    from penstock.cli.console import print_json, print_tables, progress
    from penstock.experiment.capacity import find_capacity

    with progress("searching") as update:

        def on_probe(probe: "Probe") -> None:
            update(f"seed {probe.seed}: {probe.rate_per_s:.3f}/s {probe.worst:.2%}")

        found = find_capacity(fleet, seeds, share=attainment,
                              tolerance=tolerance, low_per_s=low, high_per_s=high,
                              on_probe=on_probe, where=where)
    document = _document(found, fleet)
    if html is not None:
        from penstock.cli.capacity_page import write_capacity_page

        write_whole(html, lambda partial: write_capacity_page(partial, found, document, library),
                    (".html",))
    if as_json:
        print_json(document)
    else:
        print_tables(_tables(document))
    return OK if min(found.by_seed) > 0 else MISSED


def _document(found: "Capacity", fleet: Any) -> dict[str, Any]:
    from penstock.experiment.disclosed import redacted_share
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
                    "attainment": {name: redacted_share(fleet, name, share.share)
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
    from penstock.report.model import wording
    from penstock.report.model.table import table, verdict

    classes = list(document["probes"][0]["attainment"]) if document["probes"] else []
    probes = table(
        "Rates tried", ("seed", "requests/s", *classes, "verdict"),
        [(probe["seed"], f"{probe['rate_per_s']:,.3f}",
          *(wording.percent(probe["attainment"].get(name)) for name in classes),
          verdict(probe["meets"])) for probe in document["probes"]])
    seeds = table("Capacity by seed", ("seed", "requests/s"),
                  [(entry["seed"], f"{entry['rate_per_s']:,.3f}")
                   for entry in document["by_seed"]])
    return [probes, seeds, _headline(document)]


def _headline(document: dict[str, Any]) -> str:
    from penstock.report.model import wording

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
