"""Unfinished folders whose process was killed: told by a lock that the system drops with it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

LOCK = ".lock"
ENDING = ".partial"


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Mark ``folder`` as one that this process is filling, until the block ends.

    The lock belongs to the open file, so nobody can hold it for a process that has died, whatever
    number or machine it had. Where the file system has no locks the folder stays unmarked, and
    nobody but its owner will remove it.
    """
    handle = _locked(folder)
    try:
        yield
    finally:
        if handle is not None:
            (folder / LOCK).unlink(missing_ok=True)
            os.close(handle)


def release(folder: Path) -> None:
    """Take the mark off before the folder gets its final name."""
    (folder / LOCK).unlink(missing_ok=True)


def remove_abandoned(parent: Path) -> None:
    """Remove unfinished folders in ``parent`` whose owner is dead, and no others."""
    for folder in parent.glob(f".*{ENDING}"):
        if not folder.is_symlink() and folder.is_dir() and _is_dead(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _locked(folder: Path) -> int | None:
    """The lock's open file. It is locked before it gets the name that others look for."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return None
    unnamed = folder / f"{LOCK}-new"
    handle = os.open(unnamed, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        unnamed.unlink(missing_ok=True)
        return None
    unnamed.replace(folder / LOCK)
    return handle


def _is_dead(folder: Path) -> bool:
    """Whether the folder has a mark that no living process holds."""
    try:
        import fcntl

        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True
