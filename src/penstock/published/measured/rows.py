"""Rows of measured operating points: one point of one engine on real accelerators."""

import csv
import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError, nearest

UNSTATED = "workers/tp/pp/dp ?/"
"""Part of the notes of a row that does not state the number of workers."""

_PATTERN = "measured*.csv.gz"
_TEXTS = ("hardware", "model", "precision", "kv_precision", "framework", "framework_version",
          "spec_decode", "length_kind", "load_kind", "notes")
_NUMBERS = ("num_gpus", "tp", "pp", "ep", "dp", "isl", "osl", "load_value", "num_requests",
            "ttft_mean", "ttft_p50", "tpot_mean", "tpot_p50", "e2e_mean", "output_tok_per_s",
            "total_tok_per_s")
_COLUMNS = (*_TEXTS, *_NUMBERS, "disaggregated")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured point. ``file`` and ``row`` (1 is the first line of data) name its place.

    Times are in seconds. ``ttft_s`` and ``tpot_s`` are means, or medians where ``is_median``.
    Numbers are None where the file states none. An ``own`` point is a user's, whose engine has its
    defaults.
    """

    file: str
    row: int
    hardware: str
    model: str
    precision: str
    kv_precision: str
    framework: str
    version: str
    spec_decode: str
    disaggregated: bool
    length_kind: str
    load_kind: str
    notes: str
    num_gpus: float | None
    tp: float | None
    pp: float | None
    ep: float | None
    dp: float | None
    isl: float | None
    osl: float | None
    load_value: float | None
    num_requests: float | None
    ttft_s: float | None
    tpot_s: float | None
    output_tok_per_s: float | None
    e2e_s: float | None
    is_median: bool
    own: bool = False


def read_measured(folder: Path) -> list[Measured]:
    """Return the rows of all ``measured*.csv.gz`` files of a folder, in order of file and line.

    Raises InputError for a folder without such files, and for a broken file or value, with its
    line.
    """
    files = sorted(folder.glob(_PATTERN))
    if not files:
        raise InputError(f"{folder}: holds no {_PATTERN}")
    return _with_stated_workers([row for file in files for row in _rows(file)])


def _with_stated_workers(rows: list[Measured]) -> list[Measured]:
    """Return the rows, with notes and speculation of another row of the same run where a row states
    no number of workers. Rows of one run have the same figures to the last digit."""
    stated: dict[Any, Measured] = {}
    for row in rows:
        if row.disaggregated and UNSTATED not in row.notes and (
                run_of(row) not in stated or not stated[run_of(row)].num_gpus):
            stated[run_of(row)] = row
    same = [stated.get(run_of(row)) if row.disaggregated and UNSTATED in row.notes else None
            for row in rows]
    return [row if other is None else replace(
        row, notes=other.notes, spec_decode=other.spec_decode, num_gpus=other.num_gpus)
            for row, other in zip(rows, same, strict=True)]


def run_of(row: Measured) -> tuple[Any, ...]:
    """Return the figures that tell a run from others."""
    return row.hardware, row.isl, row.osl, row.load_value, row.ttft_s, row.tpot_s


def _rows(file: Path) -> Iterator[Measured]:
    try:
        with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            for name in _COLUMNS:
                if name not in (reader.fieldnames or ()):
                    raise InputError(f"{file}: no column {name!r}"
                                     f"{nearest(name, reader.fieldnames or ())}")
            for number, record in enumerate(reader, 1):
                yield _row(file, number, record)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: cannot be read as gzipped CSV ({error})") from None


def _row(file: Path, number: int, record: Mapping[str, Any]) -> Measured:
    values = {name: _number(file, number, name, record[name]) for name in _NUMBERS}
    text = {name: (record[name] or "").strip() for name in _TEXTS}
    is_median = values["ttft_mean"] is None and values["tpot_mean"] is None
    which = "p50" if is_median else "mean"
    same = ("num_gpus", "tp", "pp", "ep", "dp", "isl", "osl", "load_value", "num_requests",
            "output_tok_per_s")
    fields: dict[str, Any] = {
        **text, **{name: values[name] for name in same}, "version": text["framework_version"],
        "ttft_s": values[f"ttft_{which}"], "tpot_s": values[f"tpot_{which}"],
        "e2e_s": values["e2e_mean"], "is_median": is_median,
        "disaggregated": record["disaggregated"] == "1"}
    del fields["framework_version"]
    return Measured(file=file.name, row=number, **fields)


def _number(file: Path, number: int, name: str, text: str | None) -> float | None:
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{file}:{number + 1}: {name}: found {text[:40]!r}; expected a "
                         "number") from None
