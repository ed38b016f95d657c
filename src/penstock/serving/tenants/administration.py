"""Keys and the audit log as rows of the ledger. Functions run in the caller's transaction."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select, update

from penstock.serving.tenants.audit_entry import AuditEntry
from penstock.serving.tenants.keys import Key
from penstock.serving.tenants.tables import AUDIT, KEYS

_FIELDS = [AUDIT.c[name] for name in AuditEntry._fields]


def key_row(key: Key) -> dict[str, Any]:
    """Return the row of a key."""
    return {**asdict(key), "scopes": " ".join(key.scopes) or None}


def key_of(row: Mapping[Any, Any]) -> Key:
    """Return the key of a row."""
    return Key(**{**row, "scopes": tuple((row["scopes"] or "").split())})


def create_key(connection: Connection, key: Key, entry: AuditEntry) -> None:
    """Add a key, with an entry of the audit log."""
    connection.execute(insert(KEYS), key_row(key))
    add_entry(connection, entry)


def rotate_key(connection: Connection, key_id: str, expires_s: float, new: Key,
               entry: AuditEntry) -> None:
    """Add a key in the place of another, which expires."""
    create_key(connection, new, entry)
    connection.execute(update(KEYS).where(KEYS.c.key_id == key_id).values(expires_s=expires_s))


def revoke_key(connection: Connection, key_id: str, entry: AuditEntry) -> None:
    """Revoke a key, unless it was revoked before."""
    connection.execute(update(KEYS).where(
        KEYS.c.key_id == key_id, KEYS.c.revoked_s.is_(None)).values(revoked_s=entry.at_s))
    add_entry(connection, entry)


def add_entry(connection: Connection, entry: AuditEntry) -> None:
    """Append to the audit log."""
    connection.execute(insert(AUDIT), entry._asdict())


def list_entries(connection: Connection, since_s: float = 0.0) -> list[AuditEntry]:
    """Return the audit log since a moment, the oldest entry first."""
    rows = connection.execute(select(*_FIELDS).where(AUDIT.c.at_s >= since_s)
                              .order_by(AUDIT.c.number))
    return [AuditEntry(*row) for row in rows]
