"""Reads the public trace formats, and plain tables, into a Trace."""

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.workload.columns import (
    RowFaultError,
    clock_column,
    find_columns,
    missing_column,
    near_miss,
    sorted_arrivals,
    whole_tokens,
)
from penstock.workload.mooncake import read_mooncake_table, spread
from penstock.workload.table import Clock, Table, read_csv_table, read_parquet_table
from penstock.workload.text import csv_line_number, first_line, jsonl_line_number
from penstock.workload.trace import Trace
from penstock.workload.workload import FloatColumn, IntColumn

TraceFormat = Literal["azure", "burstgpt", "csv", "lengths", "mooncake", "parquet"]

# Logs of real services: rows without output are failures, and stand in order of completion.
_LOGS = frozenset({"azure", "burstgpt", "mooncake"})
_CLOCKS: dict[str, Clock] = {"azure": "datetime", "burstgpt": "timestamp", "csv": "arrival_s",
                             "lengths": "none"}


def read_trace(path: Path | str, format: TraceFormat | None = None, *,  # noqa: A002
               spread_steps: bool = True) -> Trace:
    """The requests recorded in ``path``, gzipped or not.

    Without ``format``, the file's name and header decide. Logs (``azure``,
    ``burstgpt``, ``mooncake``) are sorted by arrival, start at 0 s, and lose their rows without
    output, which ``Trace.num_dropped`` counts. Plain files (``csv``, ``parquet``) keep their times
    and must be sorted. ``spread_steps`` evens out Mooncake's 3-second stamps.

    Raises InputError, naming the file and the line, for anything that is not such a trace.
    """
    path = Path(path)
    if format is not None and format not in get_args(TraceFormat):
        raise InputError(f"unknown trace format {format!r}{nearest(format, get_args(TraceFormat))}")
    if path.is_fifo():
        raise InputError(f"{path}: is a pipe; expected a file, which is read more than once")
    kind = format or sniff_format(path)
    try:
        trace = _checked(_read_table(path, kind), path, kind)
    except RowFaultError as fault:
        raise InputError(f"{_place(path, kind, fault.row)}: {fault.message}") from None
    if kind == "mooncake" and spread_steps and trace.arrival_s is not None:
        return replace(trace, arrival_s=spread(trace.arrival_s))
    return trace


def _read_table(path: Path, kind: TraceFormat) -> Table:
    if kind == "parquet":
        return read_parquet_table(path)
    first_line(path)  # an empty or binary file is named as such, whatever it was taken for
    if kind == "mooncake":
        return read_mooncake_table(path)
    return read_csv_table(path, _CLOCKS[kind])


def _place(path: Path, kind: TraceFormat, row: int) -> str:
    if kind == "parquet":
        return f"{path}: row {row + 1}"
    find = jsonl_line_number if kind == "mooncake" else csv_line_number
    return f"{path}:{find(path, row)}"


def sniff_format(path: Path) -> TraceFormat:
    """The format of a trace file, from its extension and its header.

    Raises InputError for a file that is missing, empty, not text, or has no known columns.
    """
    if path.suffix == ".parquet":
        return "parquet"
    line = first_line(path)
    if line.startswith("{"):
        return "mooncake"
    header = [name.strip('"') for name in line.split(",")]
    found = find_columns(header)
    for column in ("prompt_tokens", "output_tokens"):
        if column not in found:
            raise missing_column(str(path), column, header)
    if "arrival_s" in found:
        return "csv"
    if "timestamp" in found:
        return _sniff_log(path, header)
    if near_miss("arrival_s", header):
        raise missing_column(str(path), "arrival_s", header)
    if clock := clock_column(header):
        raise InputError(f"{path}: no column 'arrival_s'; if {clock!r} is when requests came, "
                         "write it as 'arrival_s' in seconds; if times do not matter, state the "
                         "format 'lengths'")
    return "lengths"


def _sniff_log(path: Path, header: list[str]) -> TraceFormat:
    names = {name.strip().lower() for name in header}
    if "contexttokens" in names:
        return "azure"
    if "request tokens" in names:
        return "burstgpt"
    raise InputError(f"{path}: a column 'timestamp' but neither Azure's nor BurstGPT's others; "
                     "name it 'arrival_s' if it is in seconds, or state the format")


def _checked(table: Table, path: Path, kind: TraceFormat) -> Trace:
    if not len(table.prompt_tokens):
        raise InputError(f"{path}: no requests; the file holds only a header")
    log = kind in _LOGS
    output = whole_tokens("output_tokens", table.output_tokens, 0 if log else 1)
    prompt = whole_tokens("prompt_tokens",
                          np.where(output > 0, table.prompt_tokens, 1.0), 1)
    times = table.arrival_s
    if times is not None:
        times = _finite(times) if log else sorted_arrivals(times)
    labels = table.labels
    trace = Trace(times, prompt, output, labels.get("class"), labels.get("tenant"),
                  labels.get("model"), table.prefixes, source=str(path))
    return _tidied(trace, path) if log else trace


def _finite(times: FloatColumn) -> FloatColumn:
    if not np.isfinite(times).all():
        row = int(np.argmin(np.isfinite(times)))
        raise RowFaultError(row, f"timestamp is {times[row]}; expected a finite number")
    return times


def _tidied(log: Trace, path: Path) -> Trace:
    """A service's log as a trace: failures out, in order of arrival, starting at 0 s."""
    times = log.arrival_s
    assert times is not None, "every log format has a clock"
    kept = np.flatnonzero(log.output_tokens > 0)
    if not len(kept):
        raise InputError(f"{path}: no requests; every row has 0 output tokens")
    order = kept[np.argsort(times[kept], kind="stable")]
    trace = log if _is_identity(order, len(log)) else log.take(order)
    assert trace.arrival_s is not None, "taking rows keeps the clock"
    return replace(trace, arrival_s=trace.arrival_s - trace.arrival_s[0],
                   num_dropped=len(log) - len(kept))


def _is_identity(order: IntColumn, num_rows: int) -> bool:
    return len(order) == num_rows and bool((np.diff(order) == 1).all())
