"""Timed loads, from which a loading model is fitted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.core.errors import InputError
from penstock.perf.loading.host_memory import HostMemory
from penstock.perf.profiles.csv_rows import CsvRow, csv_rows
from penstock.perf.profiles.folder import Profile

COLUMNS = ("run", "model", "size_bytes", "seconds")
_YES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """One load that was timed.

    Loads of one ``host`` stand in the order in which they happened, so that what its page cache
    held can be followed from run to run; ``cached_bytes`` is what it did hold of the file, where
    somebody looked. ``first`` marks the first load of its run.
    """

    host: str
    run: str
    model: str
    size_bytes: int
    seconds: float
    first: bool = False
    confidential: bool = False
    cached_bytes: int | None = None


def read_load_records(path: Path) -> list[LoadRecord]:
    """Loads of a CSV file, in the order of its rows.

    Columns ``run``, ``model``, ``size_bytes``, ``seconds``; and, where they are there, ``host``,
    ``confidential`` (0 or 1) and ``cached_bytes``. Raises InputError.
    """
    found: list[LoadRecord] = []
    seen: set[tuple[str, str]] = set()
    sizes: dict[tuple[str, str], int] = {}
    for row in csv_rows(path, COLUMNS):
        host = row.text("host") if row.has("host") else "host"
        run, model, size = row.text("run"), row.text("model"), row.whole("size_bytes")
        if size != (before := sizes.setdefault((host, model), size)):
            row.fail("size_bytes", f"{before}, as {model} has it above; another file is another "
                                   "model")
        cached = row.whole("cached_bytes", 0) if row.has("cached_bytes") else None
        if cached is not None and cached > size:
            row.fail("cached_bytes", f"no more than its {size} bytes")
        found.append(LoadRecord(host, run, model, size, row.number("seconds", above=True),
                                (host, run) not in seen, _is_confidential(row), cached))
        seen.add((host, run))
    return found


def _is_confidential(row: CsvRow) -> bool:
    return row.choice("confidential", _YES) if row.has("confidential") else False


def records_of_profile(profile: Profile) -> list[LoadRecord]:
    """The loads of a profile that had files, with what the page cache held of them.

    Each counts as a run of its own, its warm-up (which also imports and compiles) as a first load.
    Raises InputError where there are none.
    """
    found = []
    for number, one in enumerate(profile.measurements):
        if one.kind != "load" or one.outcome != "ok" or not one.seconds or not one.file_bytes:
            continue
        size = round(one.file_bytes)
        share = one.cached_share if one.cached_share is not None else float(one.cache == "warm")
        found.append(LoadRecord(
            profile.source, f"{one.configuration.model} {number}", one.configuration.model, size,
            one.seconds, one.warm_up, '"setting":"cc"' in one.shape, round(size * share)))
    if not found:
        raise InputError(f"{profile.source}: no loads of files in this profile; `penstock profile "
                         "load` measures them")
    return found


def missing_bytes(records: Sequence[LoadRecord], page_cache_bytes: int) -> list[int]:
    """Bytes that each load had to read from disk, with a page cache of this size per host.

    What somebody looked at counts as seen; the rest follows from the loads before it.
    """
    hosts: dict[str, HostMemory] = {}
    found = []
    for one in records:
        memory = hosts.setdefault(one.host, HostMemory(page_cache_bytes))
        read = memory.read(one.model, one.size_bytes)
        found.append(read.disk_bytes if one.cached_bytes is None
                     else max(0, one.size_bytes - one.cached_bytes))
    return found


def working_set_bytes(records: Iterable[LoadRecord]) -> int:
    """Bytes of all models that one host loaded, the largest such host's."""
    sizes: dict[str, dict[str, int]] = {}
    for one in records:
        sizes.setdefault(one.host, {})[one.model] = one.size_bytes
    return max((sum(models.values()) for models in sizes.values()), default=0)
