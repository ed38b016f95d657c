"""Measured steps: what they computed and how long they took, read from tables and journals."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.core.step import StepFeatures

Column = NDArray[np.float64]

# Column names that we know for each quantity, the best first.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "prefill_tokens": ("prefill_tokens", "num_prefill_tokens", "prompt_tokens", "pf"),
    "work": ("prefill_attention_work", "prefill_attn_work", "attention_work", "work"),
    "prefill_context": ("prefill_ctx_sum", "prefill_context_sum", "prefill_context_tokens",
                        "prefill_past_tokens"),
    "decode_seqs": ("decode_seqs", "decode_tokens", "num_decode_tokens", "num_decodes", "decodes"),
    "context": ("decode_context_tokens", "decode_kv_tokens"),
    "context_before": ("decode_ctx_sum", "decode_context_sum"),
}
# Seconds per unit of each duration column, the best first.
_DURATIONS: Mapping[str, float] = {"step_cpu_s": 1.0, "step_wall_s": 1.0, "duration_s": 1.0,
                                   "seconds": 1.0, "step_s": 1.0, "duration_ms": 1e-3, "ms": 1e-3}


@dataclass(frozen=True, slots=True)
class StepTable:
    """Measured steps in the order they ran, one array element per step.

    Columns as in StepFeatures, ``seconds`` the durations (all positive). ``notes`` say what was
    assumed or chosen on reading.
    """

    prefill_tokens: Column
    attention_work: Column
    decode_seqs: Column
    context_tokens: Column
    seconds: Column
    source: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def largest(self) -> StepFeatures:
        """The largest value of every feature."""
        return StepFeatures(int(self.prefill_tokens.max()), float(self.attention_work.max()),
                            int(self.decode_seqs.max()), int(self.context_tokens.max()))

    def rows(self, selected: NDArray[Any]) -> "StepTable":
        """Those steps alone (a mask or positions)."""
        return StepTable(self.prefill_tokens[selected], self.attention_work[selected],
                         self.decode_seqs[selected], self.context_tokens[selected],
                         self.seconds[selected], self.source, self.notes)


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
        from penstock.perf.profiles.folder import read_profile
        from penstock.perf.profiles.summary import profile_steps

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


def step_table(columns: Mapping[str, Column], source: str,
               duration: str | None = None) -> StepTable:
    """Make a table from named columns; see ``read_steps`` for the names."""
    notes: list[str] = []
    prefill = _column(columns, "prefill_tokens", source)
    decodes = _column(columns, "decode_seqs", source)
    if _find(columns, "context"):
        context = _column(columns, "context", source)
    else:
        context = _column(columns, "context_before", source) + decodes
        notes.append("decode context counted before the step: one token per decode added")
    if _find(columns, "work"):
        work = _column(columns, "work", source)
    else:
        past = _column(columns, "prefill_context", source)
        work = prefill * (past + 0.5 * prefill)
        notes.append("attention work computed as if each step held a single prompt chunk")
    seconds = _duration(columns, source, duration, notes)
    return _checked(StepTable(prefill, work, decodes, context, seconds, source, tuple(notes)))


def _duration(columns: Mapping[str, Column], source: str, duration: str | None,
              notes: list[str]) -> Column:
    present = [name for name in _DURATIONS if name in columns]
    if duration is not None:
        if duration not in columns:
            raise InputError(f"{source}: no column {duration!r}{nearest(duration, columns)}")
        return columns[duration] * _DURATIONS.get(duration, 1e-3 if duration.endswith("_ms")
                                                  else 1.0)
    if not present:
        raise InputError(f"{source}: no duration column; expected one of: {', '.join(_DURATIONS)}")
    if len(present) > 1:
        notes.append(f"durations from {present[0]}; {', '.join(present[1:])} not used")
    return columns[present[0]] * _DURATIONS[present[0]]


def _find(columns: Mapping[str, Column], quantity: str) -> str | None:
    return next((name for name in _ALIASES[quantity] if name in columns), None)


def _column(columns: Mapping[str, Column], quantity: str, source: str) -> Column:
    name = _find(columns, quantity)
    if name is None:
        expected = _ALIASES[quantity]
        raise InputError(f"{source}: no column {expected[0]!r} (or {', '.join(expected[1:])}); "
                         f"found: {', '.join(columns)}")
    return columns[name]


def _checked(table: StepTable) -> StepTable:
    if not len(table):
        raise InputError(f"{table.source}: no steps; expected one row per engine step")
    for name in ("prefill_tokens", "attention_work", "decode_seqs", "context_tokens", "seconds"):
        values: Column = getattr(table, name)
        bad = ~np.isfinite(values) | (values < 0.0)
        if name == "seconds":
            bad |= values == 0.0
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(f"{table.source}: step {row + 1}: {name} is {values[row]:g}; expected "
                             + ("more than 0" if name == "seconds" else "0 or more"))
    return table


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
            if _is_known(name)}


def _is_known(name: str) -> bool:
    return (name in _DURATIONS or any(name in names for names in _ALIASES.values())
            or name.endswith(("_s", "_ms")))


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
                for name in table.column_names if _is_known(name)}
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
    return _checked(StepTable(columns[0], columns[1], columns[2], columns[3], columns[4],
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
