"""``penstock lab replay``: a journal fed to a fresh scheduler, which must decide the same."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.command import App
from penstock.cli.exits import MISSED, OK
from penstock.cli.options import AsJson, FromFleet
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet, ReplicaGroup
    from penstock.journal.replay import ReplayReport
    from penstock.perf.step_time.protocol import StepTimeModel

app = App()


@app.command(epilog="Example: penstock lab replay runs/first/journal-0.jsonl", words={
    "--fleet": "Fleet file with the step time; default: the one beside the journal."})
def replay(
    journal: Annotated[Path, typer.Argument(
        metavar="JOURNAL", show_default=False,
        help="Journal of a run or of Penstock's scheduler inside an engine, or a record of "
             "scaling decisions.")],
    fleet_file: FromFleet = None,
    scale: Annotated[str | None, typer.Option(
        "--scale", metavar="POLICY[:KEY=V...]", show_default=False,
        help="Ask this scale policy in place of the recorded one.")] = None,
    as_json: AsJson = False,
) -> int:
    """Check that the present scheduler makes the same plans as in the journal.

    A record of scaling decisions (scaling.jsonl) is asked again of its scale policy, or of another
    one. Exit status 1 if a plan or a decision of the same policy differs.
    """
    from penstock.cli.replay_scaling import is_scaling, replay_scaling

    if is_scaling(journal):
        return replay_scaling(journal, fleet_file, scale, as_json=as_json)
    if scale is not None:
        raise InputError(f"--scale: {journal} is not a record of scaling decisions")
    from penstock.cli.console import print_json
    from penstock.journal.journal import read_journal
    from penstock.journal.replay import replay as replay_records
    from penstock.journal.replay import scheduler_of

    records = read_journal(journal)
    header = next(records)
    report = replay_records(records, scheduler_of(header, _believed(header, journal, fleet_file)))
    if as_json:
        print_json(_document(report))
    else:
        typer.echo(_sentence(report))
    return OK if report.mismatch is None else MISSED


def _believed(header: dict[str, Any], journal: Path, fleet_file: Path | None) -> "StepTimeModel":
    """The step time that the journaled scheduler expected at first."""
    from penstock.fleet.load import load_fleet
    from penstock.fleet.replica_factory import step_time
    from penstock.fleet.scaling import slotted
    from penstock.registry.step_times import step_time_from

    if fleet_file is None and "step_time" in header:
        return step_time_from(header["step_time"], f"{journal}:1: step_time")
    fleet = slotted(load_fleet(fleet_file or journal.parent / "fleet.yaml"))
    return step_time(group_of_replica(fleet, header.get("replica"), journal))


def group_of_replica(fleet: "Fleet", replica: Any, journal: Path) -> "ReplicaGroup":
    """The group that a replica's number falls into, counted in the fleet file's order."""
    numbered = [group for group in fleet.replicas for _ in range(group.count)]
    if type(replica) is not int or not 0 <= replica < len(numbered):
        raise InputError(f"{journal}:1: replica is {replica!r}; the fleet file has {len(numbered)}"
                         ", counted from 0")
    return numbered[replica]


def _sentence(report: "ReplayReport") -> str:
    if report.mismatch is None:
        return f"{report.num_plans:,} plans, all the same"
    step, expected, got = report.mismatch
    found = "no plan" if got is None else f"{got.num_tokens} tokens for " \
        f"{len(got.tokens_by_request)} requests"
    return (f"step {step} differs after {report.num_plans:,} equal plans: the journal has "
            f"{expected.num_tokens} tokens for {len(expected.tokens_by_request)} requests, "
            f"the scheduler {found}")


def _document(report: "ReplayReport") -> dict[str, Any]:
    document: dict[str, Any] = {"num_plans": report.num_plans, "same": report.mismatch is None}
    if report.mismatch is not None:
        step, expected, got = report.mismatch
        document |= {"step": step, "expected": expected.as_dict(),
                     "got": None if got is None else got.as_dict()}
    return document
