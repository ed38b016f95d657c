"""Mooncake's JSON lines: lengths, coarse arrival stamps and hashes of 512-token blocks."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.units import ceil_div
from penstock.workload.columns import LABELS, RowFaultError, missing_column, name_index
from penstock.workload.table import Table
from penstock.workload.text import open_text
from penstock.workload.trace import Labels, Prefixes, no_prefixes, offsets_of
from penstock.workload.workload import FloatColumn

BLOCK_TOKENS = 512
_MAX_HASH = 2**63 - 1


def read_mooncake_table(path: Path, *, spread_steps: bool) -> Table:
    """The file's columns; milliseconds become seconds.

    With ``spread_steps``, requests stamped alike are spread over the time to the next stamp (see
    ``spread``). Raises InputError for missing fields, RowFaultError for a line that is not JSON or
    whose fields have the wrong type.
    """
    rows = _Rows()
    with open_text(path) as lines:
        for line in lines:
            if not line.isspace():
                rows.add(str(path), line)
    times = np.frombuffer(rows.stamps_ms) / 1000.0 if rows.stamps_ms else np.zeros(0)
    return Table(
        spread(times) if spread_steps else times,
        np.array(rows.prompts, np.float64),
        np.array(rows.outputs, np.float64),
        {column: _labels(names) for column, names in rows.labels.items() if any(names)},
        rows.prefixes(),
    )


def spread(times: FloatColumn) -> FloatColumn:
    """``times`` with the requests of one coarse stamp laid evenly over that stamp's step.

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
    spaced: FloatColumn = np.sort(times) + place * np.repeat(width_s / counts, counts)
    return spaced


class _Rows:
    """What was read so far, in compact arrays: hash lists would cost 30 bytes a value."""

    def __init__(self) -> None:
        self.stamps_ms = array("d")
        self.prompts = array("d")
        self.outputs = array("d")
        self.labels: dict[str, list[str]] = {column: [] for column in LABELS}
        self._counts = array("q")
        self._hashes = array("q")

    def add(self, where: str, line: str) -> None:
        import orjson

        number = len(self.prompts)
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise RowFaultError(number, f"not a JSON object ({error.msg})") from None
        if not isinstance(row, dict):
            raise RowFaultError(number, f"found {line.strip()[:30]!r}; expected a JSON object")
        for field in ("timestamp", "input_length", "output_length"):
            if field not in row:
                raise missing_column(f"{where}: row {number + 1}", _MEANING[field], [*row])
        self.stamps_ms.append(_number(row, "timestamp", number))
        self.prompts.append(_number(row, "input_length", number))
        self.outputs.append(_number(row, "output_length", number))
        self._add_hashes(row.get("hash_ids") or [], number)
        for column, names in self.labels.items():
            names.append(str(row.get(column, "")))

    def _add_hashes(self, hashes: object, number: int) -> None:
        if not isinstance(hashes, list) or not all(
                isinstance(value, int) and 0 <= value <= _MAX_HASH for value in hashes):
            raise RowFaultError(number, "hash_ids is not a list of whole numbers from 0")
        blocks = ceil_div(int(min(max(self.prompts[-1], 0), 1e9)), BLOCK_TOKENS)
        if len(hashes) > blocks:
            message = (f"{len(hashes)} hash_ids for {self.prompts[-1]:g} prompt tokens; expected "
                       f"at most {blocks}, one per {BLOCK_TOKENS} tokens")
            raise RowFaultError(number, message)
        self._counts.append(len(hashes))
        self._hashes.extend(hashes)

    def prefixes(self) -> Prefixes:
        if not self._hashes:
            return no_prefixes()
        values = np.array(self._hashes, np.int64)
        return Prefixes(offsets_of(np.array(self._counts, np.int64)), values, BLOCK_TOKENS)


_MEANING = {"timestamp": "timestamp", "input_length": "prompt_tokens",
            "output_length": "output_tokens"}


def _number(row: Mapping[str, Any], field: str, number: int) -> float:
    value = row[field]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RowFaultError(number, f"{field} is {str(value)[:40]!r}; expected a number")
    return float(value)


def _labels(names: list[str]) -> Labels:
    known: dict[str, int] = {}
    index = name_index(names, known)
    return Labels(tuple(known), index)
