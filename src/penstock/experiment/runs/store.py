"""SQLite file of kept runs: an index of folders, which several processes write.

A change is one transaction. The journal is SQLite's rollback journal (docs/adr/0021-kept-runs.md).
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.experiment.runs.conditions import NEWEST_FIRST, Condition, Order
from penstock.experiment.runs.kept import COLUMNS, KeptRun

FORM = 1
"""Version of the table's form. A store with a later one was written by a later Penstock."""
_APPLICATION = 0x506E7374  # marks a SQLite file as a store of runs
_TYPES = {str: "TEXT", int: "INTEGER", float: "REAL"}
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)


class RunStore:
    """Entries of runs in a file, which the first entry creates. Another process's change is waited
    for up to ``wait_s`` seconds.

    Every method raises InputError for a file that is locked, damaged, of a later form or something
    else, and then changes nothing.
    """

    def __init__(self, path: Path, wait_s: float = 2.0) -> None:
        self.path, self.wait_s = path, wait_s

    def add(self, run: KeptRun, new_id: Callable[[], str]) -> KeptRun:
        """Keep a run under a new id; earlier runs of its folder are marked as replaced. Return the
        entry."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error
        with self._transaction("IMMEDIATE") as connection:
            if not _is_store(connection, self.path):
                _create(connection)
            run = run._replace(id=_unused(connection, new_id))
            connection.execute("UPDATE runs SET replaced_by = ? "
                               "WHERE folder = ? AND replaced_by IS NULL", (run.id, run.folder))
            marks = ", ".join("?" * len(COLUMNS))
            connection.execute(f"INSERT INTO runs ({_NAMES}) VALUES ({marks})", run)
        return run

    def runs(self, conditions: Sequence[Condition] = (), order: Order = NEWEST_FIRST,
             limit: int | None = None) -> list[KeptRun]:
        """Runs that meet every condition, in order; none where there is no file."""
        if not self.path.exists():
            return []
        where = " AND ".join(condition.sql for condition in conditions) or "1"
        values = [value for condition in conditions for value in condition.values]
        with self._transaction("DEFERRED") as connection:
            if not _is_store(connection, self.path):
                return []
            rows = connection.execute(
                f"SELECT {_NAMES} FROM runs WHERE {where} "
                f"ORDER BY {order.sql}, {NEWEST_FIRST.sql}, rowid DESC LIMIT ?",
                (*values, -1 if limit is None else limit)).fetchall()
        return [self._read(row) for row in rows]

    def find(self, key: str, folder: Path) -> KeptRun:
        """Return the run whose id begins with ``key``, or else the run in ``folder``. Raises
        InputError for no run and for several."""
        runs = self.runs()
        if re.fullmatch("[0-9a-f]+", key):
            found = [run for run in runs if run.id.startswith(key)]
            if len(found) > 1:
                raise InputError(f"run {key!r}: the beginning of several ids: "
                                 f"{', '.join(run.id for run in found[:8])}")
            if found:
                return found[0]
        for run in runs:
            if run.folder == str(folder) and run.replaced_by is None:
                return run
        names = {run.id for run in runs} | {Path(run.folder).name for run in runs}
        hint = nearest(key[:60], names) or f"; {self.path} has no runs"
        raise InputError(f"no run {key[:200]!r}{hint}")

    def remove(self, ids: Iterable[str]) -> None:
        """Remove entries."""
        with self._transaction("IMMEDIATE") as connection:
            if _is_store(connection, self.path):
                connection.executemany("DELETE FROM runs WHERE id = ?", [(one,) for one in ids])

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        """Connection in a transaction that is committed where the block ends well."""
        try:
            with closing(sqlite3.connect(self.path, self.wait_s,
                                         isolation_level=None)) as connection:
                # To wait for the disk takes longer than all else; a run's files are not waited for.
                connection.execute("PRAGMA synchronous = OFF")
                connection.execute(f"BEGIN {kind}")
                yield connection
                connection.execute("COMMIT")
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "") in _DAMAGED:
                raise _damaged(self.path) from error
            raise InputError(f"{self.path}: the store of runs cannot be used ({error})") from error

    def _read(self, row: Sequence[Any]) -> KeptRun:
        values = dict(zip(COLUMNS, row, strict=True))
        for name, kind in COLUMNS.items():
            fits = isinstance(values[name], (int, float) if kind is float else kind)
            if not (fits or (values[name] is None and name not in _NEEDED)):
                raise _damaged(self.path)
        return KeptRun(**values)


_NEEDED = ("id", "kind", "status", "folder", "digest", "begun_s")


def _is_store(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has the table of runs; False for an empty file. Raises InputError for a
    later form and for a file of something else."""
    (application,), (form,) = (connection.execute(f"PRAGMA {name}").fetchone()
                               for name in ("application_id", "user_version"))
    if application == _APPLICATION:
        if form > FORM:
            raise InputError(f"{path}: was written by a later release of Penstock (form {form}; "
                             f"this release knows {FORM}); expected that release, or another "
                             "file in PENSTOCK_RUNS")
        return True
    if connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0] or application:
        raise InputError(f"{path}: another program's database; expected a store of runs, or a new "
                         "file in PENSTOCK_RUNS")
    return False


def _create(connection: sqlite3.Connection) -> None:
    columns = ", ".join(f'"{name}" {_TYPES[kind]}{" NOT NULL" if name in _NEEDED else ""}'
                        for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE runs ({columns}, PRIMARY KEY (id))")
    connection.execute("CREATE INDEX runs_by_folder ON runs (folder)")
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {FORM}")


def _unused(connection: sqlite3.Connection, new_id: Callable[[], str]) -> str:
    while True:
        found = new_id()
        if connection.execute("SELECT 1 FROM runs WHERE id = ?", (found,)).fetchone() is None:
            return found


def _damaged(path: Path) -> InputError:
    return InputError(f"{path}: damaged, or no store of runs; move the file away, then `penstock "
                      "runs add DIR` keeps the runs of folders again")
