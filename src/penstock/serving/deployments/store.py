"""Deployments on disk: a SQLite file that belongs to one process at a time.

Every change is one transaction, flushed to disk before it becomes visible. The process that opened
the file keeps it until it closes the file or dies: the lock is the operating system's.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.serving.deployments.deployments import Deployment

_VERSION = 1
_TABLES = (
    "CREATE TABLE IF NOT EXISTS deployments (name TEXT PRIMARY KEY, document TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS events (serial INTEGER PRIMARY KEY AUTOINCREMENT, "
    "at_s REAL NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL)")


class InUseError(Exception):
    """Error: another process has the file open."""


@dataclass(frozen=True, slots=True)
class Event:
    """A deployment's change of state."""

    at_s: float
    name: str
    state: str
    reason: str


class Store:
    """The deployments and their events. Call ``close`` at the end."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def deployments(self) -> list[Deployment]:
        """Return all deployments by name. Raises InputError for a record that no version of
        Penstock wrote."""
        rows = self._connection.execute("SELECT name, document FROM deployments ORDER BY name")
        return [_read(name, document) for name, document in rows]

    def write(self, changed: Iterable[Deployment]) -> None:
        """Replace deployments, all or none, and record their changes of state."""
        with self._connection:
            for one in changed:
                old = self._connection.execute(
                    "SELECT document FROM deployments WHERE name = ?", (one.name,)).fetchone()
                if old is None or _moment(_read(one.name, old[0])) != _moment(one):
                    self._connection.execute(
                        "INSERT INTO events (at_s, name, state, reason) VALUES (?, ?, ?, ?)",
                        (one.since_s, one.name, str(one.state), one.reason))
                self._connection.execute(
                    "INSERT INTO deployments VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
                    "SET document = excluded.document",
                    (one.name, _text(one)))

    def events(self, name: str | None = None) -> list[Event]:
        """Return the events of one deployment or of all, the oldest first."""
        rows = self._connection.execute(
            "SELECT at_s, name, state, reason FROM events WHERE ?1 IS NULL OR name = ?1 "
            "ORDER BY serial", (name,))
        return [Event(*row) for row in rows]


def open_store(path: Path, lock_timeout_s: float = 0.0) -> Store:
    """Open the store in a file, which is created if missing. Raises InUseError where another
    process has it open for longer than ``lock_timeout_s``, InputError where it cannot be read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=lock_timeout_s)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"{path}: cannot be opened ({error})") from error
    try:
        for setting in ("locking_mode=EXCLUSIVE", "synchronous=FULL"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("BEGIN EXCLUSIVE")  # the lock stays after the commit
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise InputError(f"{path}: version {version}; expected {_VERSION}")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.commit()
        path.chmod(0o600)
    except sqlite3.OperationalError as error:
        connection.close()
        if "locked" in str(error):
            raise InUseError(str(path)) from None
        raise InputError(f"{path}: cannot be opened ({error})") from error
    except sqlite3.DatabaseError as error:
        connection.close()
        raise InputError(f"{path}: is not a state file of deployments ({error})") from error
    except InputError:
        connection.close()
        raise
    return Store(connection)


def document(one: Deployment) -> dict[str, Any]:
    """Return a deployment as JSON data."""
    found: dict[str, Any] = _adapter().dump_python(one, mode="json")
    return found


@cache
def _adapter() -> Any:
    # Importing Pydantic takes 0.1 s.
    from pydantic import TypeAdapter

    return TypeAdapter(Deployment)


def _text(one: Deployment) -> str:
    from pydantic_core import to_json

    return to_json(one, inf_nan_mode="constants").decode()


def _moment(one: Deployment) -> tuple[str, float]:
    return one.state, one.since_s


def _renamed(record: Any) -> Any:
    """A record of release 0.1 under today's field names."""
    if isinstance(record, dict) and "wish" in record:
        record["intent"] = record.pop("wish")
        if isinstance(record["intent"], dict) and "wishes" in record["intent"]:
            record["intent"]["criteria"] = record["intent"].pop("wishes")
    return record


def _read(name: str, text: str) -> Deployment:
    from pydantic_core import from_json

    try:
        found: Deployment = _adapter().validate_python(_renamed(from_json(text)))
    except ValueError as error:
        raise InputError(f"deployment {name}: its record cannot be read "
                         f"({' '.join(str(error).split())[:200]})") from None
    return found
