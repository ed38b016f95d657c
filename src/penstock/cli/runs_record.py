"""Entries of runs: commands that write a run's folder keep an entry once its files are complete."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from penstock.cli.console import note

if TYPE_CHECKING:
    from penstock.experiment.runs.kept import KeptRun

VARIABLE, OFF = "PENSTOCK_RUNS", "off"


class Begun(NamedTuple):
    """Beginning of a command: its fleet file, and the time on the wall and by the steady clock."""

    command: str
    fleet_file: Path | None
    at_s: float
    tick_s: float

    def again(self) -> Self:
        """The same command at this moment."""
        return self._replace(at_s=time.time(), tick_s=time.perf_counter())


def begin(command: str, fleet_file: Path | None) -> Begun:
    """Return the beginning of a command at this moment."""
    return Begun(command, fleet_file, time.time(), time.perf_counter())


def keep(folder: Path, begun: Begun, *, interrupted: bool = False) -> None:
    """Keep an entry of the run in ``folder``, or note in a line why there is none."""
    try:
        path = store_path()
        if path is None:
            return
        from platform import node

        file = begun.fleet_file
        run = entry(folder, begun.command)._replace(
            begun_s=begun.at_s, duration_s=time.perf_counter() - begun.tick_s, host=node(),
            fleet_file=None if file is None else str(file.resolve()))
        add(path, run._replace(status="interrupted") if interrupted else run)
    except Exception as error:  # the run is complete, and its entry must not make it fail
        note(f"no entry of this run is kept: {' '.join(str(error).split())[:300]} "
             f"({VARIABLE}={OFF} keeps none)")


def store_path() -> Path | None:
    """Return the path of the store of runs, which PENSTOCK_RUNS names; None where it says off."""
    stated = os.environ.get(VARIABLE)
    if stated:
        return None if stated == OFF else Path(stated).expanduser()
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "penstock" / "runs.db"


def entry(folder: Path, command: str | None = None) -> "KeptRun":
    """Return an entry, yet without an id, of the run or plan in a folder.

    It begins when its document was written; without ``command`` its kind is told by the document.
    Raises InputError for a folder of anything else.
    """
    from penstock.experiment.runs.kept import KeptRun, plan_figures, run_figures
    from penstock.report.run_files import PLAN, SUMMARY
    from penstock.report.stored import read_stored

    folder = folder.resolve()
    kind, document, digest = read_stored(folder)
    is_plan = kind == "plan"
    told = "plan" if is_plan else "bench" if "outcomes" in document else \
        "run" if {"sizing", "plan"} & document.keys() else "simulate"
    figures = plan_figures(document) if is_plan else run_figures(document)
    written_s = (folder / (PLAN if is_plan else SUMMARY)).stat().st_mtime
    return KeptRun(id="", kind=command or told, folder=str(folder), digest=digest,
                   begun_s=written_s, **figures)


def add(path: Path, run: "KeptRun") -> "KeptRun":
    """Keep the entry in the store at ``path``; the entry with its id. Raises InputError."""
    from secrets import token_hex

    from penstock.experiment.runs.store import RunStore

    return RunStore(path).add(run, lambda: token_hex(4))
