"""Rows of other tools' CSV files. Every error names file, line and column."""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from penstock.core.errors import InputError, nearest
from penstock.workload.text import open_text

_T = TypeVar("_T")
_ABSENT = frozenset({"", "none", "nan", "null", "n/a"})
_MOST = 1e30  # nobody measures as much, and sums of such numbers stay finite


class CsvRow:
    """One row; ``where`` names its file and line. What a cell lacks raises InputError."""

    __slots__ = ("_cells", "where")

    def __init__(self, cells: Mapping[str, str], where: str) -> None:
        self._cells = cells
        self.where = where

    def fail(self, column: str, expected: str) -> NoReturn:
        """Raise the error that this cell is not what was expected."""
        raise InputError(f"{self.where}: {column}: found {self._cells[column][:60]!r}; expected "
                         f"{expected}")

    def has(self, column: str) -> bool:
        """Whether there is such a column and this row's cell is filled."""
        return self._cells.get(column, "").strip().lower() not in _ABSENT

    def text(self, column: str) -> str:
        """Return the cell's text, which must not be empty."""
        found = self._cells[column].strip()
        return found if found else self.fail(column, "a name")

    def number(self, column: str, least: float = 0.0, *, above: bool = False) -> float:
        """A finite number of at least ``least``, or above it."""
        try:
            value = float(self._cells[column])
        except ValueError:
            self.fail(column, "a number")
        if not math.isfinite(value) or value < least or (above and value == least):
            self.fail(column, f"a number {'above' if above else 'of at least'} {least:g}")
        return value if value < _MOST else self.fail(column, f"a number below {_MOST:g}")

    def number_or_none(self, column: str, least: float = 0.0, *, above: bool = False
                       ) -> float | None:
        """As ``number``; None for an empty cell, a NaN or a column that is not there."""
        return self.number(column, least, above=above) if self.has(column) else None

    def whole(self, column: str, least: int = 1) -> int:
        """A whole number of at least ``least``."""
        value = self.number(column, least)
        return int(value) if value == int(value) else self.fail(column, "a whole number")

    def wholes(self, column: str, least: int = 1) -> tuple[int, ...]:
        """Whole numbers parted by spaces or commas."""
        words = self._cells[column].replace(",", " ").strip("[] ").split()
        if not words or not all(word.isdecimal() and int(word) >= least for word in words):
            self.fail(column, f"whole numbers of at least {least}, parted by spaces")
        return tuple(map(int, words))

    def choice(self, column: str, values: Mapping[str, _T]) -> _T:
        """Return the value that the cell's word stands for, in any case."""
        word = self._cells[column].strip()
        if word.lower() not in values:
            raise InputError(f"{self.where}: {column}: found {word[:60]!r}"
                             f"{nearest(word[:60], values)}")
        return values[word.lower()]


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[CsvRow]:
    """The rows of a CSV file (gzipped or not) that must have ``columns``; others may be there.

    Raises InputError for a file that cannot be read, one without rows, a column that is missing
    and a row of another width.
    """
    with open_text(path) as lines:
        reader = csv.reader(lines)
        names = [name.strip() for name in next(reader, [])]
        _check_header(path, names, columns)
        num_rows = 0
        for fields in reader:
            if not fields:
                continue
            where = f"{path}:{reader.line_num}"
            if len(fields) != len(names):
                raise InputError(f"{where}: {len(fields)} fields; expected {len(names)}, as the "
                                 "header has")
            num_rows += 1
            yield CsvRow(dict(zip(names, fields, strict=True)), where)
    if not num_rows:
        raise InputError(f"{path}: no rows; the file holds only a header")


def _check_header(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    if not any(names):
        raise InputError(f"{path}: the file is empty; expected a header with "
                         f"{', '.join(columns)}")
    for column in columns:
        if column not in names:
            hint = nearest(column, filter(None, names))
            raise InputError(f"{path}:1: no column {column!r}{hint}")
    for name in names:
        if name and names.count(name) > 1:
            raise InputError(f"{path}:1: column {name!r} stands there more than once")
