"""Simulates one fleet, writes its files and prints what came out: the end of run and simulate."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.console import note, print_json, print_tables, progress
from penstock.cli.exits import MISSED, OK
from penstock.cli.moments import today
from penstock.cli.runs_record import Begun, keep
from penstock.core.errors import InputError
from penstock.experiment.certainty import MOST_REQUESTS, certainty_of, is_uncertain
from penstock.experiment.run import run_fleet
from penstock.experiment.summary import whole_summary
from penstock.experiment.workers import num_cores
from penstock.fleet.judge import confidential_rows
from penstock.fleet.prices import price_warnings
from penstock.fleet.write import to_yaml
from penstock.report.run_files import REQUESTS, staged, write_run_files
from penstock.workload.workload import Workload

if TYPE_CHECKING:
    from penstock.fleet.values import Fleet
    from penstock.metrics.run_summary import RunSummary
    from penstock.metrics.table import RequestTable
    from penstock.plan.plan import FleetPlan
    from penstock.plan.sizing import Sized
    from penstock.workload.workload import Traffic


def simulate_and_report(fleet: "Fleet", traffic: "Traffic", sized: "Sized | None",
                        out: Path | None, *, begun: Begun, plan: "FleetPlan | None" = None,
                        as_json: bool, page: bool, library: str | None, journal: bool,
                        jobs: int = 0) -> int:
    """The exit status: 0 when every class met its objective."""
    folder = out or default_folder(fleet.name)
    held = traffic if isinstance(traffic, Workload) else None
    if journal and held is not None and confidential_rows(fleet, held).any():
        raise InputError("--journal: a journal holds every request, and some are confidential")
    with staged(folder) as staging:
        with progress("simulating", len(traffic)) as update:
            run = run_fleet(fleet, traffic, fleet.run.seed,
                            journal_dir=staging if journal else None,
                            on_progress=lambda done: update(f"{done:,} requests", done),
                            store=staging / REQUESTS if held is None else None,
                            jobs=jobs or num_cores())
        summary = whole_summary(run, sized, plan)
        if plan is None and is_uncertain(fleet) and held is not None \
                and len(held) <= MOST_REQUESTS:
            summary = replace(summary, certainty=certainty_of(run, held))
        table = run.table
        write_run_files(staging, summary, table, run.series, to_yaml(fleet),
                        page=page, library=library)
    keep(folder, begun)
    status = _ended(summary, table, folder, as_json=as_json)
    if plan is not None:  # prices chose the replicas
        for line in price_warnings(fleet, today()):
            note(line)
    if not as_json and held is not None:  # requests that are not held take long to simulate
        _tell_of_ours_inside(fleet, held, summary)
    return status


def _tell_of_ours_inside(fleet: "Fleet", workload: "Workload", here: "RunSummary") -> None:
    """Note what the same replicas do with Penstock's scheduler inside their stock engine."""
    from penstock.plan.inside import with_ours_inside

    ours = with_ours_inside(fleet)
    if ours is None:
        return
    there = run_fleet(ours, workload, fleet.run.seed).summary
    told = [f"attainment {one.overall.attainment or 0.0:.2%}, goodput "
            f"{one.overall.goodput_requests_per_s or 0.0:.3g} /s".replace("%", " %")
            for one in (there, here)]
    note(f"with Penstock's scheduler inside {fleet.engine.name}: {told[0]}; as here: {told[1]}")


def _ended(summary: "RunSummary", requests: "RequestTable", folder: Path, *,
           as_json: bool) -> int:
    if as_json:
        print_json(summary.document())
    else:
        from penstock.report.terminal.run import run_blocks

        print_tables(run_blocks(summary, requests))
    note(f"files in {folder}")
    return MISSED if summary.overall.meets_slo is False else OK


def default_folder(name: str) -> Path:
    """``runs/<name>``, the name without anything that leads elsewhere."""
    return Path("runs") / (re.sub(r"[^\w.+-]+|^\.+", "-", name) or "run")
