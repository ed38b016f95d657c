"""Numeric columns of a published CSV file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest
from penstock.metrics.definitions import FloatColumn


def read_columns(path: Path, names: Sequence[str]) -> dict[str, FloatColumn]:
    """The named columns as floats, gzip accepted. Raises InputError for anything else."""
    import pyarrow as pa
    import pyarrow.csv

    try:
        table: Any = pyarrow.csv.read_csv(path)
        for name in names:
            if name not in table.column_names:
                raise InputError(f"{path}: no column {name!r}{nearest(name, table.column_names)}")
        return {name: table.column(name).cast(pa.float64()).to_numpy() for name in names}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as CSV: {str(error).splitlines()[0]}") from error
