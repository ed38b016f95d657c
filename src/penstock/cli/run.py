"""``penstock run``: size the fleet where its file states no replicas, then simulate it."""

from typing import TYPE_CHECKING

from penstock.cli.command import App
from penstock.cli.fleets import check_journal, read_fleet
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    Jobs,
    NoReport,
    OutDir,
    Seed,
    SelfContained,
    Settings,
    WithJournal,
)

if TYPE_CHECKING:
    from penstock.workload.workload import Traffic

app = App()


@app.command(epilog="Example: penstock run examples/quickstart.yaml --out runs/first")
def run(
    fleet_file: FleetFile, out: OutDir = None, settings: Settings = None, seed: Seed = None,
    as_json: AsJson = False, no_report: NoReport = False, data: DataDir = None,
    journal: WithJournal = False,
    self_contained: SelfContained = False, jobs: Jobs = 0,
) -> int:
    """Find the replicas that meet every objective, simulate them and write the run's files.

    If the fleet file has `replicas` or `multiplexing`, simulates these. With `sizing` or `variant`,
    finds the fewest replicas of these types; otherwise the cheapest replicas of a plan. Writes
    summary.json, requests.parquet, report.html and fleet.yaml, the fleet file with every default
    filled in. Exit status 1 if a class misses its objective.
    """
    from penstock.cli.console import progress
    from penstock.cli.files import library
    from penstock.cli.runs_record import begin
    from penstock.cli.single_run import simulate_and_report
    from penstock.fleet.sources import fleet_traffic, fleet_workload

    begun = begin("run", fleet_file)
    fleet = read_fleet(fleet_file, settings, data, seed)
    check_journal(fleet, journal=journal)
    sized = plan = None
    if fleet.replicas or fleet.multiplexing:  # a run needs no solver
        traffic: Traffic = fleet_traffic(fleet)
    else:
        from penstock.plan.assign.solve import solve
        from penstock.plan.replicas import find_replicas

        traffic = workload = fleet_workload(fleet)
        with progress("sizing" if fleet.sizing.stated else "planning") as update:
            found = find_replicas(fleet, workload, solve, on_step=update)
        fleet, sized, plan = found.fleet, found.sized, found.plan
    return simulate_and_report(fleet, traffic, sized, out, begun=begun, plan=plan,
                               as_json=as_json, page=not no_report,
                               library=library(self_contained), journal=journal, jobs=jobs)
