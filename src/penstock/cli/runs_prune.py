"""Removal of kept runs: which runs, and their files before their entries."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.cli.console import note, print_json, print_tables
from penstock.cli.exits import OK
from penstock.cli.moments import read_duration_s
from penstock.cli.runs_input import files_of
from penstock.cli.runs_tables import document, list_table
from penstock.core.errors import InputError
from penstock.report.stored import remove_stored

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.experiment.runs.kept import KeptRun
    from penstock.experiment.runs.store import RunStore


def chosen(store: "RunStore", older_than: str | None, keep: int | None, *,
           gone: bool) -> "list[KeptRun]":
    """Return the runs for which every condition that is given holds, newest first."""
    before_s = float("inf") if older_than is None else \
        time.time() - read_duration_s("--older-than", older_than)
    return [run for run in store.runs()[keep or 0:]
            if run.begun_s < before_s and (not gone or files_of(run) != "present")]


def pruned(store: "RunStore", runs: "Sequence[KeptRun]", *, yes: bool, as_json: bool) -> int:
    """Remove the runs, or only list them without ``yes``. Raises InputError at the end where some
    could not be removed."""
    listed = [document(run) for run in runs]
    tables = [list_table(runs)] if runs else []  # before the files go
    failed = _removed(store, runs) if yes else {}
    if as_json:
        print_json({"removed": yes, "runs": [
            {**one, **({"failed": failed[one["id"]]} if one["id"] in failed else {})}
            for one in listed]})
    else:
        print_tables(tables)
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} runs are not removed: "
                         f"{next(iter(failed.values()))}")
    told = "1 run" if len(runs) == 1 else f"{len(runs):,} runs"
    note(f"removed {told}" if yes else f"{told} would go; --yes removes them")
    return OK


def _removed(store: "RunStore", runs: "Sequence[KeptRun]") -> dict[str, str]:
    """Remove runs one by one; the reasons of those that stay, by id."""
    failed = {}
    for run in runs:
        try:
            if files_of(run) == "present":
                others = remove_stored(Path(run.folder), run.digest)
                if others:
                    note(f"{run.folder}: stays with other files: {', '.join(others[:5])}")
            store.remove([run.id])
        except InputError as error:
            failed[run.id] = str(error)
    return failed
