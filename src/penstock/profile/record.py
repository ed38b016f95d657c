"""A profile under way: rows are added, files are replaced, a folder is gone on with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.perf.profiles.folder import (
    DOCUMENT,
    is_partial,
    is_profile,
    read_profile,
    write_document,
    write_profile,
)
from penstock.perf.profiles.points import Measurement
from penstock.perf.profiling.machine import same_subject

_MOST_DEATHS = 2


class Record:
    """The rows of one folder by point. Nothing is lost of a point whose rows were ``add``-ed.

    A point during which the process died is tried once more, and then left out: what the kernel
    kills for want of memory would be killed each time.
    """

    def __init__(self, folder: Path, document: dict[str, Any],
                 measurements: Sequence[Measurement]) -> None:
        self.folder = folder
        self.document = document
        self.measurements = list(measurements)

    @property
    def session(self) -> int:
        """Number of this session, from 0."""
        return len(self.document["sessions"]) - 1

    def repeats(self, key: str) -> list[Measurement]:
        """The rows of a point, without warm-ups."""
        return [one for one in self.measurements if one.key == key and not one.warm_up]

    def is_deadly(self, key: str) -> bool:
        """Whether sessions have died in this point as often as will be tried."""
        return bool(self.document["deaths"].get(key, 0) >= _MOST_DEATHS)

    def begin(self, key: str) -> None:
        """A point is tried now."""
        self.document["under_way"] = key
        write_document(self.folder, self.document)

    def add(self, found: Sequence[Measurement]) -> None:
        """The rows of a point, or of some of its repeats, are in."""
        self.measurements += found
        self.document["under_way"] = None
        write_profile(self.folder, self.document, self.measurements)

    def leave_out(self, what: str, reason: str) -> None:
        """Note that something was not measured, and why."""
        entry = {"point": what, "reason": reason}
        if entry not in self.document["left_out"]:
            self.document["left_out"].append(entry)

    def end(self, status: str, circumstances: Mapping[str, Any], ended: str) -> None:
        """The session ends: ``complete``, ``out_of_time``, ``interrupted`` or ``failed``."""
        self.document["status"] = status
        self.document["under_way"] = None
        self.document["sessions"][-1] |= {"ended": ended, "status": status,
                                          "at_end": dict(circumstances)}
        write_profile(self.folder, self.document, self.measurements)


def open_record(folder: Path, kind: str, subject: Mapping[str, Any], machine: Mapping[str, Any],
                design: Mapping[str, Any], circumstances: Mapping[str, Any], started: str
                ) -> Record:
    """The record of a new folder, or that of the same subject on the same machine.

    The design may be another one: what it has in common with the former is not measured again.
    Raises InputError for a folder of something else, with what differs.
    """
    session = {"started": started, "at_start": dict(circumstances)}
    if not is_profile(folder):
        if folder.exists() and (not folder.is_dir() or not all(map(is_partial, folder.iterdir()))):
            raise InputError(f"--out {folder}: holds something else than a profile; expected a new "
                             "folder, or that of a profile to go on with")
        document: dict[str, Any] = {
            "kind": kind, "status": "running", "subject": dict(subject), "machine": dict(machine),
            "design": dict(design), "sessions": [session], "left_out": [], "under_way": None,
            "deaths": {}}
        write_document(folder, document)
        return Record(folder, document, ())
    found = read_profile(folder)
    _check_same(found.document, kind, subject, machine, folder)
    document = {**found.document, "status": "running", "design": dict(design), "left_out": []}
    deaths = dict(document.get("deaths") or {})
    if document.get("under_way"):
        deaths[document["under_way"]] = deaths.get(document["under_way"], 0) + 1
    document |= {"under_way": None, "deaths": deaths,
                 "sessions": [*document.get("sessions", []), session]}
    record = Record(folder, document, found.measurements)
    write_document(folder, document)
    return record


def _check_same(document: Mapping[str, Any], kind: str, subject: Mapping[str, Any],
                machine: Mapping[str, Any], folder: Path) -> None:
    import orjson

    if document.get("kind") != kind:
        raise InputError(f"--out {folder}: holds a profile of kind {document.get('kind')!r}; "
                         f"expected {kind!r} or a new folder")
    for name, now in (("subject", subject), ("machine", machine)):
        # As JSON, because tuples come back as lists.
        plain = orjson.loads(orjson.dumps(dict(now)))
        difference = same_subject(document.get(name, {}), plain)
        if difference is not None:
            raise InputError(f"--out {folder / DOCUMENT}: another {name} was measured there: "
                             f"{difference[:200]}; expected a new folder")
