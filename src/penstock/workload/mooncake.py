"""JSON lines: lengths, arrivals and, as in Mooncake's, hashes of 512-token blocks."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.units import ceil_div
from penstock.workload.clock import Clock, numbers_of, seconds_of
from penstock.workload.columns import LABELS, REQUIRED, RowFaultError, name_index
from penstock.workload.table import Table
from penstock.workload.text import json_rows
from penstock.workload.trace import Labels, Prefixes, no_prefixes, offsets_of
from penstock.workload.workload import FloatColumn

BLOCK_TOKENS = 512


def read_json_table(path: Path, fields: Mapping[str, str], clock: Clock | None) -> Table:
    """The columns of a file of JSON lines, whose ``fields`` have these names by Penstock's.

    Raises RowFaultError for a line that is not a JSON object with the expected fields.
    """
    rows = _Rows(fields, clock)
    for number, line, row in json_rows(path):
        rows.add(number, line, row)
    return Table(
        rows.times(),
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

    def __init__(self, fields: Mapping[str, str], clock: Clock | None) -> None:
        self._clock = clock
        self._required = [fields[column] for column in REQUIRED if column in fields]
        self._prompt, self._output = fields["prompt_tokens"], fields["output_tokens"]
        self._label_fields = {column: fields.get(column, column) for column in LABELS}
        self._stamps = array("d")
        self._dates: list[str] = []
        self.prompts = array("d")
        self.outputs = array("d")
        self.labels: dict[str, list[str]] = {column: [] for column in LABELS}
        self._counts = array("q")
        self._hashes = array("q")

    def add(self, number: int, line: str, row: Any) -> None:
        if not isinstance(row, dict):
            raise RowFaultError(number, f"found {line.strip()[:30]!r}; expected a JSON object")
        for field in self._required:
            if field not in row:
                found = ", ".join(map(repr, [*row][:8])) or "none"
                raise RowFaultError(number, f"no field {field!r}; found {found}")
        if self._clock is not None:
            self._add_time(row, self._clock, number)
        self.prompts.append(_number(row, self._prompt, number))
        self.outputs.append(_number(row, self._output, number))
        self._add_hashes(row.get("hash_ids") or [], number)
        for column, names in self.labels.items():
            name = row.get(self._label_fields[column])
            names.append("" if name is None else str(name))

    def _add_time(self, row: Mapping[str, Any], clock: Clock, number: int) -> None:
        if clock.unit == "iso":
            self._dates.append(str(row[clock.column]))
        else:
            self._stamps.append(_number(row, clock.column, number, clock.first))

    def times(self) -> FloatColumn | None:
        """Arrivals in seconds, None without a clock."""
        if self._clock is None:
            return None
        if self._clock.unit == "iso":
            return seconds_of(numbers_of(self._dates, self._clock, 0), self._clock)
        return seconds_of(np.array(self._stamps), self._clock)

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


def _number(row: Mapping[str, Any], field: str, number: int, less: float = 0) -> float:
    """A field's number, ``less`` another one, exact where both are whole."""
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFaultError(number, f"{field} is {str(value)[:40]!r}; expected a number")
    return float(value - less)


def _labels(names: list[str]) -> Labels:
    known: dict[str, int] = {}
    index = name_index(names, known)
    return Labels(tuple(known), index)
