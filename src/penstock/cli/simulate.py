"""``penstock simulate``: simulate a fleet whose replicas are stated."""


from penstock.cli.command import App
from penstock.cli.fleets import check_journal, read_fleet, with_replicas
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    Jobs,
    NoReport,
    NumReplicas,
    OutDir,
    Seed,
    SelfContained,
    Settings,
    WithJournal,
)

app = App()


@app.command(epilog="Example: penstock simulate examples/quickstart.yaml --replicas 3 --seed 1")
def simulate(
    fleet_file: FleetFile, replicas: NumReplicas = None, out: OutDir = None,
    settings: Settings = None, seed: Seed = None, as_json: AsJson = False, data: DataDir = None,
    no_report: NoReport = False, journal: WithJournal = False,
    self_contained: SelfContained = False, jobs: Jobs = 0,
) -> int:
    """Simulate the replicas of a fleet file, or N replicas, and write the run's files.

    Also simulates the devices that models share (`multiplexing`).

    Exit status 1 if a class misses its objective.
    """
    from penstock.cli.files import library
    from penstock.cli.runs_record import begin
    from penstock.cli.single_run import simulate_and_report
    from penstock.fleet.sources import fleet_traffic

    begun = begin("simulate", fleet_file)
    fleet = read_fleet(fleet_file, settings, data, seed)
    check_journal(fleet, journal=journal)
    fleet = with_replicas(fleet, replicas)
    return simulate_and_report(fleet, fleet_traffic(fleet), None, out, begun=begun,
                               as_json=as_json, page=not no_report,
                               library=library(self_contained), journal=journal, jobs=jobs)
