"""Rows of figures as a folder of Parquet files, which grows by parts."""

from collections.abc import Mapping, Sequence
from errno import ENOTDIR
from io import BytesIO
from pathlib import Path
from typing import Any

from penstock.report.files import write_bytes

Rows = Sequence[Mapping[str, Any]]

_NAME = "part-{:06}.parquet"  # by the number of rows before it


def write_parquet_part(folder: Path, num_before: int, rows: Rows) -> None:
    """Add the rows that follow ``num_before`` others."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = dict.fromkeys(name for row in rows for name in row)
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in columns})
    whole = BytesIO()
    pq.write_table(table, whole)
    write_bytes(folder / _NAME.format(num_before), whole.getvalue())


def write_parquet_rows(folder: Path, rows: Rows) -> None:
    """Write all rows as one file. The parts go once it is there."""
    others = [path for path in _parts(folder) if path.name != _NAME.format(0)]
    write_parquet_part(folder, 0, rows)
    for path in others:
        path.unlink()


def read_parquet_rows(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder, in order. Parts that the file of all rows includes, since the
    process ended before it removed them, are left out. Raises OSError or ValueError."""
    import pyarrow.parquet as pq

    if not folder.is_dir():
        raise NotADirectoryError(ENOTDIR, "expected a folder of Parquet files")
    rows: list[dict[str, Any]] = []
    for path in _parts(folder):
        if int(path.stem.removeprefix("part-")) >= len(rows):
            rows += pq.read_table(path).to_pylist()
    return rows


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def _column(values: list[Any]) -> Any:
    """Return a column of one type: whole numbers, numbers, truths, else texts."""
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if not kinds:
        return pa.array(values, pa.float64())
    if kinds == {int, float}:
        return pa.array(values, pa.float64())
    if len(kinds) == 1 and kinds <= {int, float, bool, str}:
        return pa.array(values)
    return pa.array([None if value is None else str(value) for value in values])
