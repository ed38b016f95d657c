"""An entry of the audit log."""

from typing import NamedTuple

_LONGEST = 200


class AuditEntry(NamedTuple):
    """One act. ``key_id`` is the public id of the key that was shown, empty without keys; ``peer``
    is the address of the client, or the user of a command."""

    at_s: float
    key_id: str
    action: str
    target: str
    outcome: str
    peer: str


def audit_entry(at_s: float, key_id: str, action: str, target: str, outcome: str,
                peer: str) -> AuditEntry:
    """Return an entry with texts that are safe to print and of limited length."""
    return AuditEntry(at_s, *(_plain(text) for text in (key_id, action, target, outcome, peer)))


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text[:_LONGEST])
