"""Reads measured steps from tables, journals and profiles."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.perf.profiles.folder import read_profile
from penstock.perf.profiles.summary import profile_steps
from penstock.perf.step_time.steps import (
    Column,
    StepTable,
    checked_steps,
    is_step_column,
    step_table,
)


def read_steps(path: Path | str, duration: str | None = None) -> StepTable:
    """Read a CSV (``.csv``, ``.csv.gz``), a Parquet file, a JSON-lines journal (``.jsonl``) or the
    folder of a profile.

    A table needs prefill tokens, decode sequences, a decode context and a duration; the attention
    work is computed from the prompts' past tokens when it has no column. ``duration`` names the
    column to use; by default CPU seconds win over wall seconds, since a shared machine pollutes
    the latter. Columns ``decode_ctx_sum`` count the context before the step.
    """
    path = Path(path)
    if path.is_dir():
        return profile_steps(read_profile(path))
    try:
        if path.suffix == ".parquet":
            columns = _read_parquet(path)
        elif path.suffix in (".jsonl", ".ndjson"):
            return _read_journal(path)
        else:
            columns = _read_csv(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return step_table(columns, str(path), duration)


def _read_csv(path: Path) -> dict[str, Column]:
    import gzip
    import zlib

    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        reader = csv.reader(content.decode("utf-8").splitlines())
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: is not CSV text ({error})") from None
    names = [name.strip() for name in next(reader, [])]
    rows = [row for row in reader if row]
    for number, row in enumerate(rows, start=2):
        if len(row) != len(names):
            raise InputError(f"{path}: line {number}: {len(row)} fields; expected {len(names)}")
    return {name: _floats(path, name, [row[i] for row in rows]) for i, name in enumerate(names)
            if is_step_column(name)}


def _floats(path: Path, name: str, values: Sequence[str]) -> Column:
    try:
        return np.array(values, dtype=np.float64)
    except ValueError:
        for number, value in enumerate(values, start=2):
            try:
                float(value)
            except ValueError:
                raise InputError(f"{path}: line {number}: {name} is {value!r}; expected a number"
                                 ) from None
        raise


def _read_parquet(path: Path) -> dict[str, Column]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        return {name: np.asarray(table.column(name).to_numpy(), dtype=np.float64)
                for name in table.column_names if is_step_column(name)}
    except (pa.ArrowInvalid, ValueError) as error:
        raise InputError(f"{path}: is not a Parquet table of numbers ({error})") from error


def _read_journal(path: Path) -> StepTable:
    """Commit records that carry the step's four features and its duration; others are skipped."""
    import orjson

    rows: list[list[float]] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise InputError(f"{path}: line {number}: is not JSON ({error})") from error
            if isinstance(record, dict) and record.get("kind") == "commit" \
                    and record.get("duration_s") is not None:
                rows.append(_journal_row(record, f"{path}: line {number}"))
    if not rows:
        raise InputError(f"{path}: no commit record with features and duration_s")
    columns = np.array(rows).T
    return checked_steps(StepTable(columns[0], columns[1], columns[2], columns[3], columns[4],
                              str(path)))


def _journal_row(record: Mapping[str, Any], where: str) -> list[float]:
    features = record.get("features")
    if not isinstance(features, list) or len(features) != len(StepFeatures._fields):
        raise InputError(f"{where}: features is {features!r}; expected "
                         f"[{', '.join(StepFeatures._fields)}]")
    row = [*features, record["duration_s"]]
    for value in row:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"{where}: found {value!r}; expected a number")
    return row
