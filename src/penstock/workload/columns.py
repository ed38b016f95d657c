"""Meaning of each column of a trace file, and its valid values."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.workload.workload import FloatColumn, IntColumn

MAX_TOKENS = 10_000_000
REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
LABELS = ("class", "tenant", "model", "session")

# Spellings in use, the preferred one first: Vidur and Sarathi say num_prefill_tokens, vLLM's
# benchmarks input_len, Mooncake input_length, Azure ContextTokens, BurstGPT "Request tokens".
ALIASES: Mapping[str, tuple[str, ...]] = {
    "arrival_s": ("arrival_s", "arrived_at", "arrival_time_s", "arrival_time"),
    "prompt_tokens": ("prompt_tokens", "input_tokens", "input_length", "input_len", "prompt_len",
                      "num_prefill_tokens", "context_tokens", "contexttokens", "request_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens", "generated_tokens", "output_length",
                      "output_len", "num_decode_tokens", "generatedtokens", "response_tokens"),
    "class": ("class", "service_class"),
    "tenant": ("tenant", "user"),
    "model": ("model",),
    "session": ("session", "session_id", "conversation_id"),
    "timestamp": ("timestamp",),
}


# Names that other logs give to a request's moment, in units and epochs of their own.
_CLOCKS = frozenset({"time", "time_ms", "time_s", "ts", "date", "datetime", "timestamp_ms",
                     "timestamp_s", "unix_time", "start_time", "request_time", "created_at",
                     "received_at", "sent_at"})
# In seconds the year 5138, in milliseconds 1973.
_LATEST_S = 1e11


class RowFaultError(Exception):
    """Row ``row`` (from 0, header and blank lines not counted) holds something unusable."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row
        self.message = message


def normal_name(name: str) -> str:
    """A column name without case, surrounding blanks, and differences of word separator."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def find_columns(header: Sequence[str]) -> dict[str, int]:
    """Position in ``header`` of every column that is known by one of its spellings."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        places.setdefault(normal_name(name), place)
    found = {}
    for column, spellings in ALIASES.items():
        known = [places[spelling] for spelling in spellings if spelling in places]
        if known:
            found[column] = known[0]
    return found


def check_distinct(where: str, header: Sequence[str]) -> None:
    """Raises InputError when a known column appears twice under the same spelling."""
    known = {spelling for spellings in ALIASES.values() for spelling in spellings}
    counts = Counter(map(normal_name, header))
    for name in known & {name for name, count in counts.items() if count > 1}:
        raise InputError(f"{where}: column {name!r} appears twice")


def clock_column(header: Iterable[str]) -> str | None:
    """The header's name that seems to tell when requests came, in a form that is not known."""
    return next((name.strip() for name in header if normal_name(name) in _CLOCKS), None)


def near_miss(column: str, header: Iterable[str]) -> str | None:
    """The header's name that looks like a misspelling of ``column``, if any."""
    names = {normal_name(name): name for name in header}
    for spelling in ALIASES[column]:
        close = get_close_matches(spelling, names, n=1, cutoff=0.75)
        if close:
            return names[close[0]].strip()
    return None


def missing_column(where: str, column: str, header: Sequence[str]) -> InputError:
    """The error that says which column is absent, what is there and what may have been meant."""
    close = near_miss(column, header)
    hint = f"; is {close!r} meant to be {column!r}?" if close else (
        f"; where another column holds it, state --map {column}=COLUMN (in a fleet file, columns)")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        hint = "; expected commas between columns"
    return InputError(f"{where}: no column {column!r}; found {listed(header)}{hint}")


def listed(header: Sequence[str]) -> str:
    """Names of a file's columns for an error, the first eight of them."""
    return ", ".join(repr(name.strip()[:30]) for name in header[:8]) or "none"


def whole_tokens(name: str, values: FloatColumn, minimum: int) -> IntColumn:
    """``values`` as counts of tokens between ``minimum`` and MAX_TOKENS.

    Raises RowFaultError for the first value that is not such a number.
    """
    with np.errstate(invalid="ignore"):
        good = (values >= minimum) & (values <= MAX_TOKENS) & (values == np.floor(values))
    if not good.all():
        row = int(np.argmin(good))
        wanted = f"a whole number from {minimum} to {MAX_TOKENS:,}"
        raise RowFaultError(row, f"{name} is {values[row]:g}; expected {wanted}")
    return values.astype(np.int64)


def sorted_arrivals(values: FloatColumn) -> FloatColumn:
    """``values`` if they are finite, not negative and in order.

    Raises RowFaultError for the first value that is not.
    """
    good = np.isfinite(values) & (values >= 0.0) & (values < _LATEST_S)
    good[1:] &= ~(values[1:] < values[:-1])
    if not good.all():
        row = int(np.argmin(good))
        if _LATEST_S <= values[row] < np.inf:
            message = (f"arrival_s is {values[row]:g}; expected seconds; if these are "
                       "milliseconds, divide them by 1000 or state the clock ms")
        elif np.isfinite(values[row]) and values[row] >= 0:
            message = (f"arrival_s {values[row]!s} is earlier than {values[row - 1]!s} of the row "
                       "before; rows must be sorted by arrival")
        else:
            message = f"arrival_s is {values[row]:g}; expected seconds from 0 up"
        raise RowFaultError(row, message)
    return values


def name_index(names: Sequence[str], known: dict[str, int]) -> NDArray[np.int64]:
    """The number of every name; names not seen before join ``known``."""
    for name in dict.fromkeys(names):
        known.setdefault(name, len(known))
    return np.fromiter(map(known.__getitem__, names), np.int64, len(names))
