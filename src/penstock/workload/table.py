"""CSV and Parquet files as columns of numbers and names, not yet judged."""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.workload.columns import (
    LABELS,
    REQUIRED,
    RowFaultError,
    check_distinct,
    find_columns,
    missing_column,
    name_index,
)
from penstock.workload.text import check_width, csv_blocks, open_text
from penstock.workload.trace import Labels, Prefixes, no_prefixes
from penstock.workload.workload import FloatColumn

Clock = Literal["arrival_s", "timestamp", "datetime", "none"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a zone would forbid subtracting bare times


@dataclass(frozen=True, slots=True)
class Table:
    """A file's columns as floats, so that a missing or odd number shows as NaN or a fraction."""

    arrival_s: FloatColumn | None
    prompt_tokens: FloatColumn
    output_tokens: FloatColumn
    labels: dict[str, Labels]
    prefixes: Prefixes = field(default_factory=no_prefixes)


def read_csv_table(path: Path, clock: Clock) -> Table:
    """The known columns of a CSV file with a header row.

    ``clock`` says what tells the arrival: a column of seconds named ``arrival_s`` or ``timestamp``,
    a ``timestamp`` column of dates, or nothing. Raises InputError for missing columns and
    RowFaultError for the first field that does not parse.
    """
    with open_text(path) as lines:
        blocks = csv_blocks(lines)
        first = next(blocks, [])
        places = wanted_columns(str(path), first[0] if first else [], clock)
        parser = _Parser(places, len(first[0]), clock)
        parser.add(first[1:])
        for rows in blocks:
            parser.add(rows)
    return parser.table()


def wanted_columns(where: str, header: Sequence[str], clock: Clock) -> dict[str, int]:
    """Positions of the columns that ``clock`` requires, and of those that are optional.

    Raises InputError when one is missing.
    """
    check_distinct(where, header)
    found = find_columns(header)
    time_column = "timestamp" if clock == "datetime" else clock
    required = (*REQUIRED[1:], *([] if clock == "none" else [time_column]))
    for column in required:
        if column not in found:
            raise missing_column(where, column, header)
    return {column: found[column] for column in (*required, *LABELS) if column in found}


class _Parser:
    """Turns blocks of text rows into columns, so that few rows exist as Python strings at once."""

    def __init__(self, places: dict[str, int], width: int, clock: Clock) -> None:
        self._places = places
        self._width = width
        self._clock = clock
        self._num_rows = 0
        self._parts: dict[str, list[NDArray[Any]]] = {column: [] for column in places}
        self._names: dict[str, dict[str, int]] = {column: {} for column in LABELS}

    def add(self, rows: list[list[str]]) -> None:
        if not rows:
            return
        check_width(rows, self._width, self._num_rows)
        fields = list(zip(*rows, strict=True))
        for column, place in self._places.items():
            self._parts[column].append(self._parsed(column, fields[place]))
        self._num_rows += len(rows)

    def _parsed(self, column: str, texts: Sequence[str]) -> NDArray[Any]:
        if column in LABELS:
            return name_index(texts, self._names[column])
        if column == "timestamp" and self._clock == "datetime":
            return _nanoseconds(texts, self._num_rows)
        return _numbers(column, texts, self._num_rows)

    def table(self) -> Table:
        columns = {column: np.concatenate(parts) if parts else np.zeros(0)
                   for column, parts in self._parts.items()}
        times = columns.get("arrival_s", columns.get("timestamp"))
        if times is not None and self._clock == "datetime" and len(times):
            times = (times - times.min()) / 1e9
        labels = {column: Labels(tuple(self._names[column]), columns[column].astype(np.int64))
                  for column in LABELS if column in columns}
        return Table(times, columns["prompt_tokens"], columns["output_tokens"], labels)


def _numbers(column: str, texts: Sequence[str], first_row: int) -> FloatColumn:
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        place = next(i for i, text in enumerate(texts) if not _is_number(text))
        found = repr(texts[place][:40]) if texts[place] else "empty"
        message = f"{column} is {found}; expected a number"
        raise RowFaultError(first_row + place, message) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _nanoseconds(texts: Sequence[str], first_row: int) -> NDArray[np.int64]:
    """Dates as whole nanoseconds since 1970, so that the later subtraction is exact."""
    # numpy reads bare dates, as Azure wrote in 2023, five times as fast as datetime reads any. For
    # dates with a zone it warns.
    with suppress(ValueError, Warning), warnings.catch_warnings(action="error"):
        moments = np.array(texts, "datetime64[ns]")
        if not np.isnat(moments).any():
            return moments.astype(np.int64)
    try:
        return np.fromiter(map(_zoned_nanoseconds, texts), np.int64, len(texts))
    except ValueError:
        place = next(i for i, text in enumerate(texts) if not _is_date(text))
        found = repr(texts[place][:40]) if texts[place] else "empty"
        message = f"TIMESTAMP is {found}; expected a date such as 2023-11-16 18:15:46.68"
        raise RowFaultError(first_row + place, message) from None


def _zoned_nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset()
    bare = moment.replace(tzinfo=None)
    passed = bare - _EPOCH - offset if offset else bare - _EPOCH
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1000


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def read_parquet_table(path: Path) -> Table:
    """The known columns of a Parquet file, with prefix hashes when Penstock wrote it.

    Raises InputError for a file that is not Parquet, lacks a column or holds a non-number.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(path)
        header = source.schema_arrow.names
        places = wanted_columns(str(path), header, "arrival_s")
        has_hashes = ("prefix_hashes" in header
                      and b"hash_block_tokens" in (source.schema_arrow.metadata or {}))
        names = [header[place] for place in places.values()]
        data = source.read([*names, *(["prefix_hashes"] if has_hashes else [])])
        numbers = {column: _parquet_numbers(data.column(header[places[column]]))
                   for column in REQUIRED}
        labels = {column: _parquet_labels(data.column(header[places[column]]))
                  for column in LABELS if column in places}
        prefixes = _parquet_prefixes(data) if has_hashes else no_prefixes()
    except (pa.ArrowException, OSError) as error:
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: {said}") from error
    return Table(numbers["arrival_s"], numbers["prompt_tokens"], numbers["output_tokens"], labels,
                 prefixes)


def _parquet_numbers(column: Any) -> FloatColumn:
    values: FloatColumn = column.cast("float64").to_numpy()
    return values


def _parquet_labels(column: Any) -> Labels:
    import pyarrow as pa

    encoded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    index = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Labels(tuple(encoded.dictionary.to_pylist()), index)


def _parquet_prefixes(data: Any) -> Prefixes:
    column = data.column("prefix_hashes").combine_chunks()
    block_tokens = int(data.schema.metadata[b"hash_block_tokens"])
    return Prefixes(column.offsets.to_numpy().astype(np.int64),
                    column.values.to_numpy().astype(np.int64), block_tokens)
