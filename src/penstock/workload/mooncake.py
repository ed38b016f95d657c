"""Mooncake's JSON lines: lengths, coarse arrival stamps and hashes of 512-token blocks."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from penstock.core.units import ceil_div
from penstock.workload.columns import LABELS, RowFaultError, name_index
from penstock.workload.table import Table
from penstock.workload.text import open_text
from penstock.workload.trace import Labels, Prefixes, no_prefixes, offsets_of
from penstock.workload.workload import FloatColumn

BLOCK_TOKENS = 512


def read_mooncake_table(path: Path) -> Table:
    """The file's columns; milliseconds become seconds.

    Raises RowFaultError for a line that is not a JSON object with the expected fields.
    """
    rows = _Rows()
    with open_text(path) as lines:
        for line in lines:
            if not line.isspace():
                rows.add(line)
    times = np.frombuffer(rows.stamps_ms) / 1000.0 if rows.stamps_ms else np.zeros(0)
    return Table(
        times,
        np.array(rows.prompts, np.float64),
        np.array(rows.outputs, np.float64),
        {column: _labels(names) for column, names in rows.labels.items() if any(names)},
        rows.prefixes(),
    )


def spread(times: FloatColumn) -> FloatColumn:
    """Sorted ``times`` with the requests of one coarse stamp laid evenly over that stamp's step.

    Mooncake's conversation trace stamps requests in steps of about three seconds. Taken literally,
    a dozen requests arrive at one instant, which no client did. The step is the usual distance of
    two stamps; times are returned as they are unless most requests share their stamp with the one
    before.
    """
    stamps, counts = np.unique(times, return_counts=True)
    if len(stamps) < 2 or 2 * len(stamps) > len(times):
        return times
    step_s = float(np.median(np.diff(stamps)))
    width_s = np.minimum(np.diff(stamps, append=stamps[-1] + step_s), step_s)
    place = np.arange(len(times)) - np.repeat(offsets_of(counts)[:-1], counts)
    spaced: FloatColumn = times + place * np.repeat(width_s / counts, counts)
    return spaced


class _Rows:
    """Rows read so far, in compact arrays: hash lists would cost 30 bytes a value."""

    def __init__(self) -> None:
        self.stamps_ms = array("d")
        self.prompts = array("d")
        self.outputs = array("d")
        self.labels: dict[str, list[str]] = {column: [] for column in LABELS}
        self._counts = array("q")
        self._hashes = array("q")

    def add(self, line: str) -> None:
        number = len(self.prompts)
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RowFaultError(number, f"not a JSON object ({error.msg})") from None
        if not isinstance(row, dict):
            raise RowFaultError(number, f"found {line.strip()[:30]!r}; expected a JSON object")
        for field in ("timestamp", "input_length", "output_length"):
            if field not in row:
                found = ", ".join(map(repr, [*row][:8])) or "none"
                raise RowFaultError(number, f"no field {field!r}; found {found}")
        self.stamps_ms.append(_number(row, "timestamp", number))
        self.prompts.append(_number(row, "input_length", number))
        self.outputs.append(_number(row, "output_length", number))
        self._add_hashes(row.get("hash_ids") or [], number)
        for column, names in self.labels.items():
            names.append(str(row.get(column, "")))

    def _add_hashes(self, hashes: Any, number: int) -> None:
        try:
            self._hashes.extend(hashes)
        except (TypeError, OverflowError):
            hashes = [-1]
        if not isinstance(hashes, list) or min(hashes, default=0) < 0:
            raise RowFaultError(number, "hash_ids is not a list of whole numbers from 0 to 2^63-1")
        blocks = ceil_div(int(min(max(self.prompts[-1], 0), 1e9)), BLOCK_TOKENS)
        if len(hashes) > blocks:
            message = (f"{len(hashes)} hash_ids for {self.prompts[-1]:g} prompt tokens; expected "
                       f"at most {blocks}, one per {BLOCK_TOKENS} tokens")
            raise RowFaultError(number, message)
        self._counts.append(len(hashes))

    def prefixes(self) -> Prefixes:
        if not self._hashes:
            return no_prefixes()
        values = np.array(self._hashes, np.int64)
        return Prefixes(offsets_of(np.array(self._counts, np.int64)), values, BLOCK_TOKENS)


def _number(row: Mapping[str, Any], field: str, number: int) -> float:
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFaultError(number, f"{field} is {str(value)[:40]!r}; expected a number")
    return float(value)


def _labels(names: list[str]) -> Labels:
    known: dict[str, int] = {}
    index = name_index(names, known)
    return Labels(tuple(known), index)
