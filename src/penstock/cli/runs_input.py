"""Kept runs that a command line names."""

from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.runs_record import OFF, VARIABLE, store_path
from penstock.core.errors import InputError
from penstock.report.stored import holds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.experiment.runs.kept import KeptRun
    from penstock.experiment.runs.store import RunStore


def opened() -> "RunStore":
    """Return the store of runs. Raises InputError where PENSTOCK_RUNS turns it off."""
    from penstock.experiment.runs.store import RunStore

    path = store_path()
    if path is None:
        raise InputError(f"{VARIABLE}={OFF}: there is no store of runs; expected a file's path, or "
                         "no value for the user's own")
    return RunStore(path)


def found(store: "RunStore", keys: "Sequence[str]") -> "list[KeptRun]":
    """Return the runs of ids and folders, each once. Raises InputError."""
    runs = [store.find(key, Path(key).resolve()) for key in keys]
    for run in runs:
        if runs.count(run) > 1:
            raise InputError(f"run {run.id}: appears twice; expected different runs")
    return runs


def files_of(run: "KeptRun") -> str:
    """Return the state of a run's files: ``present``, ``gone``, or ``replaced`` by those of another
    run."""
    if run.replaced_by is not None:
        return "replaced"
    folder = Path(run.folder)
    if holds(folder, run.digest):
        return "present"
    return "replaced" if any((folder / name).is_file()
                             for name in ("summary.json", "plan.json")) else "gone"


def folder_of(run: "KeptRun") -> Path:
    """Return the folder of a run whose files are there. Raises InputError."""
    state = files_of(run)
    if state != "present":
        by = f" by run {run.replaced_by}" if run.replaced_by else " by another run"
        raise InputError(f"run {run.id}: its files in {run.folder} are {state}"
                         f"{by if state == 'replaced' else ''}; expected a run whose files are "
                         "there")
    return shown_path(run)


def shown_path(run: "KeptRun") -> Path:
    """Return the folder as seen from the working directory, if the folder is within it."""
    folder, here = Path(run.folder), Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) and folder != here else folder
