"""Runs load on an endpoint, writes the files and prints what came of it: the end of bench."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from penstock.cli.console import note, print_json, print_tables, progress
from penstock.cli.exits import INTERRUPTED, MISSED, OK
from penstock.cli.runs_record import Begun, keep
from penstock.cli.single_run import default_folder
from penstock.core.errors import InputError
from penstock.metrics.series import RunSeries
from penstock.report.run_files import PAGE, staged, write_run_files

if TYPE_CHECKING:
    from penstock.core.slo import Slo
    from penstock.experiment.load.bench import BenchRun, Target
    from penstock.experiment.load.plan import LoadPlan
    from penstock.experiment.load.sweep import Variable

LEVELS = "sweep.json"


class Pages(NamedTuple):
    """Whether there are pages, and the folder of their plot library, seen from a run's folder."""

    written: bool
    library: str | None

    def sharing(self) -> "Pages":
        """Pages of folders beside each other, with their library above them."""
        return self._replace(library=self.library and "..")


def allow_connections() -> None:
    """Let this process have as many connections as the system lets it: one per open request."""
    try:
        import resource
    except ImportError:  # not POSIX, where there is no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (ValueError, OSError):  # macOS says "unlimited" and does not mean it
        return


def run_once(target: "Target", plan: "LoadPlan", out: Path | None, guidellm_out: Path | None, *,
             as_json: bool, pages: Pages, begun: Begun) -> int:
    """The exit status: 0 when no class misses its objective."""
    from penstock.engines.http import stop_signal
    from penstock.experiment.load.bench import bench

    allow_connections()
    folder = out or default_folder(plan.name)
    total = plan.num_requests if plan.concurrency else len(plan.workload)
    with staged(folder) as staging:
        with progress("sending", total) as update:

            async def run_it() -> "tuple[BenchRun, bool]":
                stop = stop_signal()
                run = await bench(target, plan, stop=stop, on_progress=lambda done: update(
                    f"{done:,} answered", done))
                return run, stop.is_set()

            run, interrupted = asyncio.run(run_it())
        _write(staging, run, plan, pages=pages)
    keep(folder, begun, interrupted=interrupted)
    if guidellm_out is not None:
        write_guidellm(guidellm_out, [run])
    _show(run, as_json=as_json)
    note(f"files in {folder}")
    if interrupted:
        return INTERRUPTED
    return OK if run.meets else MISSED


def run_levels(target: "Target", plan_at: "Callable[[float], LoadPlan]", variable: "Variable",
               levels: Sequence[float], out: Path | None, guidellm_out: Path | None, *,
               as_json: bool, pages: Pages, begun: Begun) -> int:
    """Run after run into folders beside each other. 0 when any level met every objective."""
    from penstock.engines.http import stop_signal
    from penstock.experiment.load.sweep import level_row, sweep
    from penstock.report.model.load import levels_table
    from penstock.report.rows import write_rows

    allow_connections()
    folder = out or default_folder(plan_at(levels[0]).name)
    _check_levels_folder(folder)
    label = "rate" if variable == "rate_per_s" else "concurrency"
    runs, rows = [], []

    async def run_all() -> bool:
        since = begun
        stop = stop_signal()
        with progress("sending", len(levels)) as update:
            async for level, run in sweep(target, plan_at, levels, stop=stop):
                place = folder / f"{label}-{level:g}"
                with staged(place) as staging:
                    _write(staging, run, plan_at(level), pages=pages.sharing())
                keep(place, since, interrupted=stop.is_set())
                since = since.again()
                runs.append(run)
                rows.append(level_row(variable, level, run))
                write_rows(folder / LEVELS, rows)
                update(f"{label} {level:g}")
        return stop.is_set()

    interrupted = asyncio.run(run_all())
    if pages.written and runs:
        _write_levels(folder, variable, [row[variable] for row in rows], runs, pages.library)
    if guidellm_out is not None:
        write_guidellm(guidellm_out, runs)
    if as_json:
        print_json({"variable": variable, "levels": rows})
    else:
        print_tables([levels_table(variable, rows)])
    note(f"files in {folder}")
    if interrupted:
        return INTERRUPTED
    return OK if any(run.meets for run in runs) else MISSED


def import_runs(file: Path, slo: "Slo", class_name: str | None, out: Path | None, *, as_json: bool,
                pages: Pages, begun: Begun) -> int:
    """Make run folders of what GuideLLM measured; of several benchmarks, one each."""
    from penstock.experiment.load.guidellm import read_guidellm
    from penstock.experiment.load.plan import UNNAMED_CLASS

    runs = read_guidellm(file, slo, class_name or UNNAMED_CLASS)
    folder = out or default_folder(file.stem)
    if len(runs) > 1:
        _check_levels_folder(folder)
    for number, run in enumerate(runs):
        place = folder if len(runs) == 1 else folder / f"benchmark-{number}"
        with staged(place) as staging:
            _write(staging, run, None, pages=pages)
        keep(place, begun)
    if as_json:
        documents = [run.summary.document() for run in runs]
        print_json(documents[0] if len(documents) == 1 else documents)
    else:
        for run in runs:
            _show(run, as_json=False)
    note(f"files in {folder}")
    return OK if all(run.meets for run in runs) else MISSED


def write_guidellm(path: Path, runs: "Sequence[BenchRun]") -> None:
    """GuideLLM's JSON of the runs. Raises InputError for a path that cannot be written."""
    from penstock.cli.files import write_whole
    from penstock.experiment.load.guidellm_write import guidellm_document
    from penstock.report.files import write_summary

    document = guidellm_document(runs)
    write_whole(path, lambda partial: write_summary(partial, document), (".json",))


def _write(staging: Path, run: "BenchRun", plan: "LoadPlan | None", *, pages: Pages) -> None:
    from penstock.fleet.write import to_yaml

    text = to_yaml(plan.fleet) if plan is not None and plan.fleet is not None else None
    write_run_files(staging, run.summary, run.table, RunSeries(), text,
                    page=pages.written, library=pages.library)


def _write_levels(folder: Path, variable: "Variable", levels: Sequence[float],
                  runs: "Sequence[BenchRun]", library: str | None) -> None:
    """Write the page of all levels."""
    from penstock.report.html.levels_page import write_levels_page
    from penstock.report.model.levels import CONCURRENCY, RATE, Levels, points, slos_of

    found, url = runs[0].summary, str(runs[0].measured.load["url"])
    origin = found.origin
    write_levels_page(folder / PAGE, Levels(
        f"Load on {url}", RATE if variable == "rate_per_s" else CONCURRENCY,
        [point for level, run in zip(levels, runs, strict=True)
         for point in points(level, "", [run.summary])], slos_of(found),
        "One run for each level, one after the other; each has a page of its own in its folder."),
        {"name": origin.name, "version": origin.version} if origin else {}, library)


def _show(run: "BenchRun", *, as_json: bool) -> None:
    if as_json:
        print_json(run.summary.document())
        return
    from penstock.report.terminal.run import run_blocks

    print_tables(run_blocks(run.summary, run.table))


def _check_levels_folder(folder: Path) -> None:
    """A folder of runs may hold nothing but runs."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder for the runs")
    if folder.is_dir() and (folder / "summary.json").exists():
        raise InputError(f"{folder}: holds a single run; expected another folder for several")
