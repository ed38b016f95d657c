"""Folders of earlier runs and plans: their documents, and the removal of their files."""

import hashlib
import stat
from pathlib import Path
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.report.files import LIBRARY
from penstock.report.run_files import (
    FLEET,
    JOURNALS,
    PAGE,
    PLAN,
    REQUESTS,
    SUMMARY,
    Kind,
    read_summary,
)


class Stored(NamedTuple):
    """Document of a folder: the summary of a run, or a plan, with the digest of its file."""

    kind: Kind
    document: dict[str, Any]
    digest: str


def read_stored(folder: Path) -> Stored:
    """Return the document of a run or plan. Raises InputError for a folder of anything else."""
    path = _document_file(folder)
    document = _read_plan(path) if path.name == PLAN else read_summary(folder)
    return Stored("plan" if path.name == PLAN else "run", document, _digest(path))


def holds(folder: Path, digest: str) -> bool:
    """Whether the folder has the run or plan whose file had this digest."""
    path = _document_file(folder)
    try:
        return _is_file(path) and _digest(path) == digest
    except OSError:
        return False


def own_files(folder: Path) -> list[Path]:
    """Files of the run or plan in a folder, without the plot library; the document is the last."""
    names = [folder / name for name in (PAGE, REQUESTS, FLEET)]
    return [path for path in (*names, *sorted(folder.glob(JOURNALS)), _document_file(folder))
            if _is_file(path)]


def plot_library(folder: Path) -> list[Path]:
    """The plot library, if it is in the folder; pages of others may need it, too."""
    return [folder / LIBRARY] if _is_file(folder / LIBRARY) else []


def remove_stored(folder: Path, digest: str) -> list[str]:
    """Remove the files of a run or plan, and the folder if it has no others. Return the names of
    the others.

    Raises InputError, before anything is removed, for a folder behind a symbolic link and for one
    without the run or plan of this ``digest``.
    """
    try:
        if folder.resolve(strict=True) != folder:
            raise InputError(f"{folder}: behind a symbolic link; expected the folder itself")
        if not holds(folder, digest):
            raise InputError(f"{folder}: not the run that was recorded; expected its files")
        own = own_files(folder)
        library = plot_library(folder)
        if {path.name for path in folder.iterdir()} == {path.name for path in (*own, *library)}:
            own = [*library, *own]
        for path in own:  # the document last, so that a removal that is interrupted can be repeated
            path.unlink()
        others = sorted(path.name for path in folder.iterdir())
        if not others:
            folder.rmdir()
    except OSError as error:
        raise InputError(f"{folder}: cannot be removed ({error.strerror or error})") from error
    return others


def _document_file(folder: Path) -> Path:
    """The file that makes a folder that of a run or of a plan."""
    is_plan = _is_file(folder / PLAN) and not (folder / SUMMARY).exists()
    return folder / (PLAN if is_plan else SUMMARY)


def _is_file(path: Path) -> bool:
    """Whether there is a file of this name, itself and not by a symbolic link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _read_plan(path: Path) -> dict[str, Any]:
    import orjson

    try:
        plan = orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(plan, dict) or not {"replicas", "cost_per_hour", "demands"} <= set(plan):
        raise InputError(f"{path}: not a fleet's plan; expected replicas, cost_per_hour and "
                         "demands")
    return plan
