"""Rows of figures as a CSV or JSON file, or a folder of Parquet files, whole at every moment."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.report.files import write_bytes
from penstock.report.parquet_rows import read_parquet_rows, write_parquet_part, write_parquet_rows

ENDINGS = (".csv", ".json", ".parquet")

_PART_S = 1.0
_WRITING_SHARE = 0.05  # of the time, at most: a table of many rows takes long to write


class RowsFile:
    """A file of rows, ``known`` ones and those that are added. ``clock`` counts seconds.

    Rows of the last moments are lost with the process: a CSV or JSON file is written anew for each
    row while that takes little of the time, and a Parquet folder gets a part each second. ``close``
    writes all.
    """

    def __init__(self, path: Path, known: Sequence[Mapping[str, Any]],
                 clock: Callable[[], float]) -> None:
        self._path = path
        self._rows = list(known)
        self._num_written = 0
        self._clock = clock
        self._due_s = clock()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self._rows.append(row)
        begun_s = self._clock()
        if begun_s < self._due_s:
            return
        if self._path.suffix == ".parquet" and self._num_written:
            write_parquet_part(self._path, self._num_written, self._rows[self._num_written:])
            self._due_s = begun_s + _PART_S
        else:
            write_rows(self._path, self._rows)
            self._due_s = begun_s + (self._clock() - begun_s) / _WRITING_SHARE
        self._num_written = len(self._rows)

    def close(self) -> None:
        """Write all rows, in Parquet as one file. Without rows there is no file."""
        if self._rows:
            write_rows(self._path, self._rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows anew, by the path's ending. Columns are those of any row, in order of first
    appearance; None is an empty field in CSV."""
    import orjson

    if path.suffix == ".parquet":
        write_parquet_rows(path, rows)
        return
    if path.suffix == ".json":
        write_bytes(path, orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_rows`` wrote; values of a CSV stay text.

    Raises InputError when the file is not of that form.
    """
    import orjson

    try:
        if path.suffix == ".parquet":
            rows = read_parquet_rows(path)
        elif path.suffix == ".json":
            rows = orjson.loads(path.read_bytes())
        else:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""),
                                       strict=True))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not a table of rows ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: not a table of rows; expected a list of mappings")
    return rows
