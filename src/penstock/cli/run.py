"""``penstock run``: size the fleet where its file states no replicas, then simulate it."""

from typing import TYPE_CHECKING

from penstock.cli.command import App
from penstock.cli.fleets import check_turns, read_fleet
from penstock.cli.options import (
    AsJson,
    DataDir,
    FleetFile,
    NoReport,
    OutDir,
    Seed,
    Settings,
    WithJournal,
)
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.cli.console import Update
    from penstock.experiment.sizing import Sized
    from penstock.fleet.values import Fleet
    from penstock.workload.workload import Workload


app = App()


@app.command(epilog="Example: penstock run examples/quickstart.yaml --out runs/first")
def run(
    fleet_file: FleetFile, out: OutDir = None, settings: Settings = None, seed: Seed = None,
    as_json: AsJson = False, no_report: NoReport = False, data: DataDir = None,
    journal: WithJournal = False,
) -> int:
    """Find how many replicas meet every objective, simulate them and write the run's files.

    A fleet file that states its replicas, or devices on which models take turns, is simulated with
    those, one with `sizing` or `variant` is given the fewest replicas of those kinds, any other the
    cheapest replicas that a plan finds.
    Files: summary.json, requests.parquet, report.html and fleet.yaml, the fleet with every default
    written out.
    Exit status 1 when a class misses its objective.
    """
    from penstock.cli.console import progress
    from penstock.cli.single_run import simulate_and_report, simulate_turns
    from penstock.fleet.sources import fleet_workload

    fleet = read_fleet(fleet_file, settings, data, seed)
    if fleet.residency:
        check_turns(fleet, None, journal=journal)
        return simulate_turns(fleet, fleet_workload(fleet), out, as_json=as_json,
                              page=not no_report)
    workload = fleet_workload(fleet)
    sized = plan = None
    if not fleet.replicas and fleet.sizing.stated:
        with progress("sizing") as update:
            sized = _sized(fleet, workload, update)
        fleet = sized.fleet
    elif not fleet.replicas:
        from penstock.cli.plan_fleet import planned

        plan = planned(fleet, workload)
        fleet = plan.fleet
        if plan.fits_nowhere:
            raise InputError(plan.fits_nowhere)
    return simulate_and_report(fleet, workload, sized, out, plan=plan, as_json=as_json,
                               page=not no_report, journal=journal)


def _sized(fleet: "Fleet", workload: "Workload", update: "Update") -> "Sized":
    from penstock.experiment.sizing import Trial, size_fleet
    from penstock.report.wording import replicas

    def on_trial(trial: Trial) -> None:
        update(f"{replicas(trial.count)}: {'enough' if trial.meets else 'too few'}")

    return size_fleet(fleet, workload, fleet.run.seed, on_trial)
