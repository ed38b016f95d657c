"""A run's folder: it appears, or changes, only once every file of the run is complete."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from penstock.core.errors import InputError
from penstock.metrics.request_file import RequestWriter
from penstock.metrics.run_summary import RunSummary
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.report.abandoned import ENDING, owned, release, remove_abandoned
from penstock.report.files import LIBRARY, read_json, write_summary, write_text

SUMMARY, REQUESTS, PAGE, FLEET = "summary.json", "requests.parquet", "report.html", "fleet.yaml"
PLAN, SOLUTION = "plan.json", "solution-data.json"
JOURNALS = "journal-*.jsonl"

Kind = Literal["run", "plan", "plan of a bundle"]
"""The kinds of results that a folder holds; the last is of an Inferno bundle."""


@contextmanager
def staged(folder: Path, kind: Kind = "run") -> Iterator[Path]:
    """A folder to fill; its files move to ``folder`` when the block ends well.

    What killed runs left beside ``folder`` is removed. ``folder`` may hold earlier results of the
    same ``kind``, whose files are then replaced. Raises InputError when it cannot be written or
    holds anything else, before anything is computed. Folders above it that are new go again when
    the block fails.
    """
    _check(folder, kind)
    above = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=ENDING,
                                        dir=folder.parent))
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        with owned(staging):
            yield staging
            release(staging)
            _publish(staging, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for parent in above:
            with suppress(OSError):  # it holds the results, or another's
                parent.rmdir()


def _check(folder: Path, kind: Kind) -> None:
    try:
        str(folder if kind == "run" else "").encode()
    except UnicodeEncodeError:  # the writer of the requests takes no other names
        raise InputError(f"{folder}: a name that is not UTF-8; expected UTF-8") from None
    try:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise InputError(f"{folder}: is a file; expected a folder for the run")
        if any(folder.iterdir()) and (held := _kind_of(folder)) != kind:
            files = f"other files, of a {held}" if held else "other files"
            raise InputError(f"{folder}: holds {files}; expected a new folder, an empty one or one "
                             f"with an earlier {kind}")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used ({error.strerror})") from error


def _kind_of(folder: Path) -> Kind | None:
    """The kind of results that a folder holds; ``None`` when none."""
    if (folder / PLAN).is_file() and (folder / SOLUTION).is_file():
        return None if any((folder / name).exists() for name in (SUMMARY, FLEET)) \
            else "plan of a bundle"
    if (folder / SUMMARY).is_file():
        return "run"
    return "plan" if (folder / PLAN).is_file() else None


def _publish(staging: Path, folder: Path) -> None:
    staging.chmod(0o755)  # mkdtemp lets nobody else in
    if not folder.exists():
        staging.rename(folder)
        return
    fresh = {path.name for path in staging.iterdir()}
    earlier = (folder / name for name in (PAGE, LIBRARY, REQUESTS, SUMMARY, PLAN, FLEET))
    for stale in (*earlier, *folder.glob(JOURNALS)):
        if stale.name not in fresh:
            stale.unlink(missing_ok=True)
    for path in staging.iterdir():
        path.replace(folder / path.name)


def write_run_files(folder: Path, summary: RunSummary, table: RequestTable,
                    series: RunSeries, fleet_yaml: str | None, *, page: bool = True,
                    library: str | None = ".") -> None:
    """Write summary, requests, resolved fleet file if there is one and, with ``page``, the HTML
    report, whose plot library is in the folder ``library``, seen from this one, or within it.

    A ``table`` that is a sample belongs to a file of requests that is already in the folder."""
    write_summary(folder / SUMMARY, summary.document())
    if fleet_yaml is not None:
        write_text(folder / FLEET, fleet_yaml)
    if table.stands_for == 1:
        with RequestWriter(folder / REQUESTS) as writer:
            writer.write(table)
    if page:
        from penstock.report.html.run_page import write_page

        write_page(folder / PAGE, summary, table, series, library)


def write_plan_files(folder: Path, document: Mapping[str, Any], fleet_yaml: str, *,
                     page: bool = True, library: str | None = ".") -> None:
    """Write the plan, the fleet file with its replicas and, with ``page``, the HTML report."""
    write_summary(folder / PLAN, document)
    write_text(folder / FLEET, fleet_yaml)
    if page:
        from penstock.report.html.plan_page import write_plan_page

        write_plan_page(folder / PAGE, document, library)


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of the run in ``folder`` as a document. Raises InputError when there is none."""
    path = folder / SUMMARY
    summary = read_json(path, "; expected a folder that `penstock run` wrote")
    if not isinstance(summary, dict) or not {"overall", "classes", "window_s"} <= set(summary):
        raise InputError(f"{path}: not a run's summary; expected overall, classes and window_s")
    return summary


def write_stored_page(path: Path, folder: Path, summary: RunSummary,
                      library: str | None = ".") -> None:
    """Write the HTML report of the run in ``folder`` anew from its stored files.

    A run stores no steps, so the page has no step timeline, replica queues or KV memory. Raises
    InputError when the requests are missing.
    """
    from penstock.metrics.request_file import read_requests
    from penstock.report.html.run_page import write_page

    write_page(path, summary, read_requests(folder / REQUESTS), RunSeries(), library)
