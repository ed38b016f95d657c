"""Layout of a trace file, told from its first lines: format, columns, clock."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import orjson

from penstock.core.errors import InputError, nearest
from penstock.workload.clock import Clock, Unit, clock_of
from penstock.workload.column_map import AS_KNOWN, ColumnMap, mapped_places
from penstock.workload.columns import (
    ALIASES,
    LABELS,
    RowFaultError,
    check_distinct,
    clock_column,
    find_columns,
    missing_column,
    near_miss,
    normal_name,
)
from penstock.workload.session_files import FORMS, session_form
from penstock.workload.text import csv_line_number, first_line, jsonl_line_number, open_text

TraceFormat = Literal["agentic", "aiperf", "azure", "bailian", "burstgpt", "csv", "jsonl",
                      "lengths", "llmservingsim", "mooncake", "parquet", "sessions", "weka"]
Form = Literal["text", "json", "parquet"]

MOONCAKE = {"arrival_s": "timestamp", "prompt_tokens": "input_length",
            "output_tokens": "output_length"}
"""Fields of Mooncake's format by Penstock's names."""

_LENGTHS = ("prompt_tokens", "output_tokens")
# Units of times that do not count from 1970.
_UNITS: Mapping[TraceFormat, Unit] = {"azure": "iso", "burstgpt": "s", "mooncake": "ms"}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a trace file has its columns.

    ``places`` are positions in ``header`` by Penstock's usual names; the column that tells when
    requests came is ``arrival_s``, whatever its unit. Without such a column ``clock`` is None.
    """

    kind: TraceFormat
    form: Form
    header: tuple[str, ...]
    places: Mapping[str, int]
    clock: Clock | None

    @property
    def fields(self) -> dict[str, str]:
        """The file's names of columns by Penstock's usual names."""
        return {column: self.header[place] for column, place in self.places.items()}


@dataclass(frozen=True, slots=True)
class _Head:
    """The names of a file's columns, and the values of its first row."""

    where: str
    form: Form
    header: tuple[str, ...] = ()
    first: tuple[object, ...] = ()

    def value(self, place: int) -> object:
        return self.first[place] if place < len(self.first) else None


def layout_of(path: Path, format: TraceFormat | None = None,  # noqa: A002
              mapping: ColumnMap = AS_KNOWN) -> Layout:
    """The layout of a trace file, in a stated format or as its header and its first row tell.

    Raises InputError for a file that is missing, empty, not text, or lacks a column, and for a
    clock that contradicts its column's name.
    """
    if format is not None and format not in get_args(TraceFormat):
        raise InputError(f"unknown trace format {format!r}{nearest(format, get_args(TraceFormat))}")
    head = _read_head(path, format)
    sessions = _session_layout(path, head, format, mapping)
    if sessions is not None:
        return sessions
    if head.form != "json":
        check_distinct(head.where, head.header)
    mapped = mapped_places(head.where, head.header, mapping)
    try:
        return _layout(head, format, mapped, mapping.clock)
    except RowFaultError as fault:
        raise InputError(f"{row_place(path, head.form, fault.row)}: {fault.message}") from None


def _session_layout(path: Path, head: _Head, stated: TraceFormat | None, mapping: ColumnMap
                    ) -> Layout | None:
    """The layout of a file of sessions, whose fields have fixed names and units."""
    kind = stated if stated in FORMS else None
    if stated is None and head.form == "json" and mapping == AS_KNOWN:
        found = session_form(path, dict(zip(head.header, head.first, strict=True)))
        kind = next((one for one in get_args(TraceFormat) if one == found), None)
    if kind is None:
        return None
    if mapping != AS_KNOWN:
        raise InputError(f"{path}: the fields of the format {kind} are fixed; leave the map and "
                         "the clock out")
    return Layout(kind, "json", head.header, {}, None)


def columns_in(path: Path, format: TraceFormat | None = None,  # noqa: A002
               ) -> tuple[str, ...]:
    """The names of a trace file's columns. Raises InputError for a file that has none."""
    return _read_head(path, format).header


def row_place(path: Path, form: str, row: int) -> str:
    """Where a row stands in a file of text, of JSON lines (``json``) or of Parquet."""
    if form == "parquet":
        return f"{path}: row {row + 1}"
    find = jsonl_line_number if form == "json" else csv_line_number
    return f"{path}:{find(path, row)}"


def _layout(head: _Head, stated: TraceFormat | None, mapped: Mapping[str, int],
            unit: Unit | None) -> Layout:
    if stated == "mooncake" or (stated is None and _is_mooncake(head, mapped)):
        kind: TraceFormat = "mooncake"
        known = find_columns(head.header)
        places = {label: known[label] for label in LABELS if label in known}
        places.update({column: head.header.index(name) for column, name in MOONCAKE.items()
                       if name in head.header})
        places.update(mapped)
    else:
        places = find_columns(head.header)
        places.update(mapped)
        for column in _LENGTHS:
            if column not in places:
                raise missing_column(head.where, column, head.header)
        kind = stated or _sniffed(head, places, unit)
        if kind in ("azure", "burstgpt") and "arrival_s" not in mapped:
            places.pop("arrival_s", None)
    place = _clock_place(kind, head, places, unit)
    clock = None if place is None else _clock(kind, head, place, unit)
    kept = {column: places[column] for column in (*_LENGTHS, *LABELS) if column in places}
    return Layout(kind, head.form, head.header,
                  kept if place is None else {"arrival_s": place, **kept}, clock)


def _is_mooncake(head: _Head, mapped: Mapping[str, int]) -> bool:
    """Whether JSON lines have Mooncake's fields, or are broken from the first."""
    fields = {MOONCAKE[column] for column in ("arrival_s", *_LENGTHS) if column not in mapped}
    return head.form == "json" and (not head.header
                                    or (len(fields) == 3 and fields <= {*head.header}))


def _sniffed(head: _Head, places: Mapping[str, int], unit: Unit | None) -> TraceFormat:
    """The format of a file whose format nobody states, Mooncake's excepted."""
    if head.form != "text":
        return "parquet" if head.form == "parquet" else "jsonl"
    names = {name.strip().lower() for name in head.header}
    if "timestamp" in places and "arrival_s" not in places:
        if "contexttokens" in names:
            return "azure"
        if "request tokens" in names:
            return "burstgpt"
    return "lengths" if _clock_place("jsonl", head, places, unit) is None else "csv"


def _clock_place(kind: TraceFormat, head: _Head, places: Mapping[str, int],
                 unit: Unit | None) -> int | None:
    """The position of the column that tells when requests came, None where nothing does.

    Raises InputError where the format needs such a column, and where a column seems to be one in a
    ``unit`` that neither the user nor its first value tells.
    """
    if kind == "lengths" or "arrival_s" in places:
        return None if kind == "lengths" else places["arrival_s"]
    if kind in ("azure", "burstgpt", "mooncake"):
        if "timestamp" not in places and kind != "mooncake":
            raise missing_column(head.where, "timestamp", head.header)
        return places.get("timestamp")
    found = _unnamed_clock(head, places, unit)
    if found is None and kind != "jsonl":
        raise missing_column(head.where, "arrival_s", head.header)
    return found


def _unnamed_clock(head: _Head, places: Mapping[str, int], unit: Unit | None) -> int | None:
    if "timestamp" not in places and near_miss("arrival_s", head.header):
        raise missing_column(head.where, "arrival_s", head.header)
    name = clock_column(head.header)
    if name is None and "timestamp" not in places:
        return None
    place = places.get("timestamp", 0) if name is None else [
        one.strip() for one in head.header].index(name)
    if unit is not None or clock_of(head.header[place], head.value(place)).since_1970:
        return place
    if "timestamp" not in places:
        raise InputError(f"{head.where}: no column 'arrival_s'; if {name!r} is when requests came, "
                         "write it as 'arrival_s' in seconds, or state its unit as the clock: s, "
                         "ms, us, ns or iso; if times do not matter, state the format 'lengths'")
    if head.form == "json":
        return place  # in Mooncake's unit
    raise InputError(f"{head.where}: a column 'timestamp' but neither Azure's nor BurstGPT's "
                     "others; name it 'arrival_s' if it is in seconds, or state its unit as the "
                     "clock, s, ms, us, ns or iso, or the format")


def _clock(kind: TraceFormat, head: _Head, place: int, stated: Unit | None) -> Clock:
    name, first = head.header[place], head.value(place)
    if kind in _UNITS:
        return clock_of(name, first, stated=stated, usual=_UNITS[kind])
    if normal_name(name) in ALIASES["arrival_s"]:
        return clock_of(name, first, stated=stated, usual="s")
    mooncakes = head.form == "json" and normal_name(name) == "timestamp"
    return clock_of(name, first, stated=stated, usual="ms" if mooncakes else None, sure=False)


def _read_head(path: Path, kind: TraceFormat | None) -> _Head:
    if path.is_fifo():
        raise InputError(f"{path}: is a pipe; expected a file, which is read more than once")
    if kind == "parquet" or (kind is None and path.suffix == ".parquet"):
        from penstock.workload.parquet import first_row

        row = first_row(path)
        return _Head(str(path), "parquet", tuple(row), tuple(row.values()))
    line = first_line(path)
    if kind in ("mooncake", "jsonl", *FORMS) or (kind is None and line.startswith("{")):
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:  # the reader of rows says where
            found = None
        fields = found if isinstance(found, dict) else {}
        return _Head(str(path), "json", tuple(fields), tuple(fields.values()))
    with open_text(path) as lines:
        rows = (row for row in csv.reader(lines) if row)
        header, first = next(rows, []), next(rows, [])
    return _Head(str(path), "text", tuple(header), tuple(first))
