"""A trace file's columns as numbers and names, not yet judged, and those of CSV."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.workload.clock import Clock, numbers_of, parsed_numbers, seconds_of
from penstock.workload.columns import LABELS, name_index
from penstock.workload.text import check_width, csv_blocks, open_text
from penstock.workload.trace import Labels, Prefixes, no_prefixes
from penstock.workload.workload import FloatColumn


@dataclass(frozen=True, slots=True)
class Table:
    """A file's columns as floats, so that a missing or odd number shows as NaN or a fraction."""

    arrival_s: FloatColumn | None
    prompt_tokens: FloatColumn
    output_tokens: FloatColumn
    labels: dict[str, Labels]
    prefixes: Prefixes = field(default_factory=no_prefixes)


def read_csv_table(path: Path, places: Mapping[str, int], clock: Clock | None) -> Table:
    """The columns at ``places`` of a CSV file with a header row.

    Raises RowFaultError for the first field that does not parse.
    """
    with open_text(path) as lines:
        blocks = csv_blocks(lines)
        first: list[list[str]] = next(blocks, [[]])
        parser = _Parser(places, len(first[0]), clock)
        parser.add(first[1:])
        for rows in blocks:
            parser.add(rows)
    return parser.table()


class _Parser:
    """Turns blocks of text rows into columns, so that few rows exist as Python strings at once."""

    def __init__(self, places: Mapping[str, int], width: int, clock: Clock | None) -> None:
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
        if column == "arrival_s" and self._clock is not None:
            return numbers_of(texts, self._clock, self._num_rows)
        return parsed_numbers(column, texts, self._num_rows)

    def table(self) -> Table:
        columns = {column: np.concatenate(parts) if parts else np.zeros(0)
                   for column, parts in self._parts.items()}
        times = None if self._clock is None else seconds_of(columns["arrival_s"], self._clock)
        labels = {column: Labels(tuple(self._names[column]), columns[column].astype(np.int64))
                  for column in LABELS if column in columns}
        return Table(times, columns["prompt_tokens"], columns["output_tokens"], labels)
