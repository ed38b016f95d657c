"""``penstock profile fit served``: step times of an engine from how it served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.exits import OK
from penstock.cli.options import AsJson, FromFleet, OutFile
from penstock.core.errors import InputError

if TYPE_CHECKING:
    from penstock.perf.calibration.calibration import Calibration
    from penstock.perf.step_time.linear import LinearStepTime


def served(
    source: Annotated[Path, typer.Argument(
        metavar="RECORD|POINTS", show_default=False,
        help="A record of scaling decisions (scaling.jsonl), or operating points (CSV: rate_per_s, "
        "prompt_tokens, output_tokens, max_batch, ttft_s, itl_s).")],
    fleet: FromFleet = None,
    group: Annotated[int, typer.Option(
        "--group", min=0, metavar="N", help="A record: the group of replicas.")] = 0,
    believed: Annotated[Path | None, typer.Option(
        "--believed", metavar="FILE", show_default=False,
        help="Points: step times to begin with, as a file. Default: wide open.")] = None,
    out: OutFile = None,
    as_json: AsJson = False,
) -> int:
    """Find an engine's step times from its mean latencies while it serves, with their intervals.

    A record begins with the step times that its fleet believes, by default of the fleet file beside
    it. A fleet file uses the result as `step_time: FILE`.
    """
    from penstock.cli.console import print_json, print_tables
    from penstock.cli.files import write_whole
    from penstock.cli.replay_scaling import is_scaling
    from penstock.perf.calibration.latencies import chain_latencies
    from penstock.perf.calibration.step_time import step_time_of
    from penstock.perf.step_time.store import save_step_time

    if not source.is_file():
        raise InputError(f"{source}: no such file")
    if is_scaling(source):
        if believed is not None:
            raise InputError("--believed is for points; a record begins with its fleet's step "
                             "times")
        found = _of_record(source, fleet, group)
    elif fleet is not None:
        raise InputError(f"{source}: --fleet is for a record of scaling decisions; this file is "
                         "none")
    else:
        found = _of_points(source, believed)
    model = step_time_of(found.known, found.points, chain_latencies)
    if out is not None:
        write_whole(out, lambda path: save_step_time(model, path), (".yaml", ".json"))
    if as_json:
        print_json(_document(found, model))
    else:
        print_tables(_tables(found, model))
    return OK


def _of_record(source: Path, fleet_file: Path | None, group: int) -> "Calibration":
    from penstock.cli.replay_scaling import beside
    from penstock.fleet.calibration import calibration_of_record
    from penstock.fleet.load import load_fleet

    fleet = load_fleet(fleet_file or beside(source))
    if group >= len(fleet.replicas):
        raise InputError(f"--group {group}: the fleet has {len(fleet.replicas)} groups of "
                         "replicas, counted from 0")
    return calibration_of_record(source, fleet, group)


def _of_points(source: Path, believed: Path | None) -> "Calibration":
    from penstock.perf.calibration.calibration import Calibration
    from penstock.perf.calibration.step_time import parameters_of
    from penstock.perf.calibration.table import read_points
    from penstock.perf.calibration.values import Prior
    from penstock.perf.queueing.parameters import IterationTimes
    from penstock.registry.step_times import load_step_time

    times = IterationTimes(5.0, 0.05, 5e-5) if believed is None else \
        parameters_of(load_step_time(believed))
    calibration = Calibration(Prior(times))
    for point in read_points(source):
        calibration.observe(point)
    return calibration


def _document(found: "Calibration", model: "LinearStepTime") -> dict[str, Any]:
    from penstock.perf.calibration.values import NAMES
    from penstock.perf.step_time.store import step_time_document

    known = found.known
    return {**step_time_document(model), "parameters": {
        name: {"value": getattr(known.times, name), "low": getattr(known.low, name),
               "high": getattr(known.high, name), "identified": name not in known.unidentified}
        for name in NAMES}, "num_points": known.num_points, "num_drifts": found.num_drifts,
        "noise": known.noise}


def _tables(found: "Calibration", model: "LinearStepTime") -> list[Any]:
    from penstock.perf.calibration.values import NAMES
    from penstock.report.model.table import table

    known = found.known
    rows = [(name, f"{getattr(known.times, name):.4g}",
             f"{getattr(known.low, name):.4g} to {getattr(known.high, name):.4g}",
             "no: open by more than a factor of 2" if name in known.unidentified else "yes")
            for name in NAMES]
    drifts = f"{found.num_drifts} changes of the engine were found; points before the last are " \
        "left out" if found.num_drifts else "no change of the engine was found"
    return [table(f"Step times from {known.num_points:,} points",
                  ("parameter", "value", "95 % interval", "identified"), rows),
            f"{drifts}; inter-token latencies deviate by {model.evidence.mean_error:.1%} in the "
            "mean"]
