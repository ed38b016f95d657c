"""Result of an importer: rows in Penstock's form, with notes on their origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import write_profile
from penstock.perf.profiles.points import Measurement


@dataclass(frozen=True, slots=True)
class Imported:
    """Rows of another tool's file. ``subject`` is what the file says of engine and device,
    ``notes`` what was assumed on reading."""

    measurements: tuple[Measurement, ...]
    subject: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def numbered(measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """The same rows, those of one point numbered as its repeats in their order."""
    seen: dict[str, int] = {}
    found = []
    for one in measurements:
        number = seen.get(one.key, 0)
        seen[one.key] = number + 1
        found.append(one if number == one.repeat else replace(one, repeat=number))
    return tuple(found)


def write_imported(imported: Imported, tool: str, path: Path, out: Path) -> None:
    """Write a profile of what was read from ``path``. Raises InputError for a folder in use."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: is there already; expected a new folder")
    digest = sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    write_profile(out, {
        "kind": "imported", "status": "complete",
        "subject": {"simulated": False, **imported.subject},
        "machine": {}, "design": {}, "sessions": [], "left_out": [],
        "imported": {"tool": tool, "file": str(path), "sha256": digest},
        "notes": list(imported.notes)}, imported.measurements)
