"""Reads the public trace formats, and plain tables, into a Trace."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.clock import Clock
from penstock.workload.column_map import AS_KNOWN, ColumnMap
from penstock.workload.columns import RowFaultError, normal_name, sorted_arrivals, whole_tokens
from penstock.workload.layout import MOONCAKE, Layout, TraceFormat, layout_of, row_place
from penstock.workload.mooncake import read_json_table, spread
from penstock.workload.parquet import read_parquet_table
from penstock.workload.session_files import FORMS, read_session_file
from penstock.workload.session_turns import session_trace
from penstock.workload.table import Table, read_csv_table
from penstock.workload.trace import Trace
from penstock.workload.workload import FloatColumn, IntColumn

# Logs of real services: rows without output are failures, and stand in order of completion.
_LOGS = frozenset({"azure", "burstgpt", "mooncake"})


def read_trace(path: Path | str, format: TraceFormat | None = None, *,  # noqa: A002
               mapping: ColumnMap = AS_KNOWN, spread_steps: bool = True) -> Trace:
    """The requests recorded in ``path``, gzipped or not.

    Without ``format``, the file's name and first lines decide. ``mapping`` names columns that have
    other names than the known ones, and the unit of the clock. Logs (``azure``, ``burstgpt``,
    ``mooncake``, and any file whose times count from 1970) are sorted by arrival, start at 0 s, and
    lose their rows without output, which ``Trace.num_dropped`` counts. Plain files keep their times
    and must be sorted. ``spread_steps`` evens out Mooncake's 3-second stamps. Files of sessions say
    which requests waited for which (``Trace.links``).

    Raises InputError, naming the file and the line, for anything that is not such a trace.
    """
    path = Path(path)
    layout = layout_of(path, format, mapping)
    try:
        if layout.kind in FORMS:
            return session_trace(read_session_file(path, layout.kind), str(path),
                                 spread_steps=spread_steps)
        trace = _checked(_read_table(path, layout), path, layout)
    except RowFaultError as fault:
        raise InputError(f"{row_place(path, layout.form, fault.row)}: {fault.message}") from None
    if layout.kind == "mooncake" and spread_steps and trace.arrival_s is not None:
        return replace(trace, arrival_s=spread(trace.arrival_s))
    return trace


def sniff_format(path: Path) -> TraceFormat:
    """The format of a trace file, from its extension and its first lines.

    Raises InputError for a file that is missing, empty, not text, or has no known columns.
    """
    return layout_of(path).kind


def assumed_clock(path: Path | str, format: TraceFormat | None = None,  # noqa: A002
                  mapping: ColumnMap = AS_KNOWN) -> str:
    """The assumption on a trace file's clock that ``read_trace`` makes, empty where the format or
    the user states the clock. Raises InputError as ``read_trace``."""
    clock = layout_of(Path(path), format, mapping).clock
    return f"{path}: {clock.assumed}" if clock is not None and clock.assumed else ""


def _read_table(path: Path, layout: Layout) -> Table:
    if layout.form == "json":
        fields = MOONCAKE if layout.kind == "mooncake" else {}
        return read_json_table(path, {**fields, **layout.fields}, layout.clock)
    if layout.form == "parquet" and layout.clock is not None:
        return read_parquet_table(path, layout.fields, layout.clock)
    return read_csv_table(path, layout.places, layout.clock)


def _checked(table: Table, path: Path, layout: Layout) -> Trace:
    if not len(table.prompt_tokens):
        raise InputError(f"{path}: no requests; the file holds only a header")
    clock = layout.clock
    log = layout.kind in _LOGS or (clock is not None and clock.since_1970)
    output = whole_tokens("output_tokens", table.output_tokens, 0 if log else 1)
    prompt = whole_tokens("prompt_tokens",
                          np.where(output > 0, table.prompt_tokens, 1.0), 1)
    times = table.arrival_s
    if times is not None:
        times = _finite(times, clock) if log else sorted_arrivals(times)
    labels = table.labels
    trace = Trace(times, prompt, output, labels.get("class"), labels.get("tenant"),
                  labels.get("model"), table.prefixes, source=str(path),
                  assumed="" if clock is None else clock.assumed, session=labels.get("session"))
    return _tidied(trace, path) if log else trace


def _finite(times: FloatColumn, clock: Clock | None) -> FloatColumn:
    if not np.isfinite(times).all():
        row = int(np.argmin(np.isfinite(times)))
        name = normal_name(clock.column) if clock is not None else "arrival_s"
        raise RowFaultError(row, f"{name} is {times[row]}; expected a finite number")
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
