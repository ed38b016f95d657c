"""The audit log of administration: who did what to what, and with which outcome."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from penstock.core.errors import InputError
from penstock.serving.tenants.audit_entry import AuditEntry, audit_entry

if TYPE_CHECKING:  # not imported at run time: a gateway without a ledger needs no SQLAlchemy
    from penstock.serving.tenants.ledger import Ledger


class AuditFile:
    """A file of JSON lines that only its owner may read. Raises InputError for a file that cannot
    be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.append(None)
        except OSError as error:
            raise InputError(f"--audit {path}: cannot be written: {error.strerror}") from error

    def append(self, entry: AuditEntry | None) -> None:
        """Append an entry, which outlives the machine's next failure. Raises OSError."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            status = os.fstat(file)
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                os.fchmod(file, 0o600)
            if entry is not None:
                os.write(file, orjson.dumps(entry._asdict(), option=orjson.OPT_APPEND_NEWLINE))
                os.fsync(file)
        finally:
            os.close(file)


class AuditLog:
    """Writes entries to the ledger, to a file, or to both. ``note`` gets what cannot be written."""

    def __init__(self, ledger: "Ledger | None", file: AuditFile | None, wall_s: Callable[[], float],
                 note: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._file = file
        self._wall_s = wall_s
        self._note = note

    async def add(self, key_id: str, action: str, target: str, outcome: str, peer: str) -> None:
        """Append an entry, and wait until it is written."""
        entry = audit_entry(self._wall_s(), key_id, action, target, outcome, peer)
        try:
            if self._file is not None:
                await asyncio.to_thread(self._file.append, entry)
        except OSError as error:
            self._note(f"the audit file cannot be written ({error.strerror}): {entry}")
        if self._ledger is not None:
            await self._to_ledger(self._ledger, entry)

    async def _to_ledger(self, ledger: "Ledger", entry: AuditEntry) -> None:
        from penstock.serving.tenants.administration import add_entry
        from penstock.serving.tenants.store import StoreError

        try:
            await ledger.ask(lambda store: store.transact(
                lambda connection: add_entry(connection, entry)))
        except StoreError as error:
            self._note(f"the audit log cannot be written ({error}): {entry}")
