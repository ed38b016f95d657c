"""``penstock run``: size the fleet where its file states no replicas, then simulate it."""


from penstock.cli.command import App
from penstock.cli.fleets import check_journal, read_fleet
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    NoReport,
    OutDir,
    Seed,
    SelfContained,
    Settings,
    WithJournal,
)

app = App()


@app.command(epilog="Example: penstock run examples/quickstart.yaml --out runs/first")
def run(
    fleet_file: FleetFile, out: OutDir = None, settings: Settings = None, seed: Seed = None,
    as_json: AsJson = False, no_report: NoReport = False, data: DataDir = None,
    journal: WithJournal = False,
    self_contained: SelfContained = False,
) -> int:
    """Find the replicas that meet every objective, simulate them and write the run's files.

    If the fleet file has `replicas` or `multiplexing`, simulates these. With `sizing` or `variant`,
    finds the fewest replicas of these types; otherwise the cheapest replicas of a plan. Writes
    summary.json, requests.parquet, report.html and fleet.yaml, the fleet file with every default
    filled in. Exit status 1 if a class misses its objective.
    """
    from penstock.cli.console import progress
    from penstock.cli.files import library
    from penstock.cli.single_run import simulate_and_report
    from penstock.fleet.sources import fleet_workload

    fleet = read_fleet(fleet_file, settings, data, seed)
    check_journal(fleet, journal=journal)
    workload = fleet_workload(fleet)
    sized = plan = None
    if not fleet.replicas and not fleet.multiplexing:  # else a run needs no solver
        from penstock.plan.assign.solve import solve
        from penstock.plan.replicas import find_replicas

        with progress("sizing" if fleet.sizing.stated else "planning") as update:
            found = find_replicas(fleet, workload, solve, on_step=update)
        fleet, sized, plan = found.fleet, found.sized, found.plan
    return simulate_and_report(fleet, workload, sized, out, plan=plan, as_json=as_json,
                               page=not no_report, library=library(self_contained), journal=journal)
