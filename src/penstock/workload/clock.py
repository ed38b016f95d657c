"""Clocks of trace files: units, times since 1970, dates."""

import math
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError, nearest
from penstock.workload.columns import RowFaultError
from penstock.workload.workload import FloatColumn

Unit = Literal["s", "ms", "us", "ns", "iso"]
UNITS: tuple[Unit, ...] = get_args(Unit)

_PER_S: dict[Unit, float] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_WORDS: dict[Unit, str] = {"s": "seconds", "ms": "milliseconds", "us": "microseconds",
                           "ns": "nanoseconds", "iso": "dates"}
# Seconds since 1970 of recognised times: the years 2001 to 2099. Times in other units cannot be
# taken for these, because each unit's range ends long before the next begins.
_EARLIEST_S, _LATEST_S = 1e9, 4.1e9
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - a zone would forbid subtracting bare times
_HINT = "state another unit as the clock: s, ms, us, ns or iso"


@dataclass(frozen=True, slots=True)
class Clock:
    """How the clock column of a file is read.

    ``since_1970`` says that times are moments, of which only the differences count; ``first`` is
    the file's first time then. ``assumed`` says what neither the user nor the format stated.
    """

    column: str
    unit: Unit
    since_1970: bool = False
    first: float = 0
    assumed: str = ""


def unit_of(text: str) -> Unit:
    """Return the unit of a clock. Raises InputError."""
    if text not in UNITS:
        raise InputError(f"unknown clock {text[:40]!r}{nearest(text[:40], UNITS)}")
    return next(unit for unit in UNITS if unit == text)


def clock_of(column: str, first: object, *, stated: Unit | None = None, usual: Unit | None = None,
             sure: bool = True) -> Clock:
    """Tell the clock of a column from its name and its first value.

    ``stated`` is the user's word. ``usual`` is the unit of times that do not count from 1970, and
    ``sure`` says that the format states that unit. Raises RowFaultError where the column's name
    contradicts the size of the value.
    """
    number = _number(first)
    found = None if number is None else _unit_since_1970(number)
    if stated is not None and stated != "iso":
        since = number is not None and number / _PER_S[stated] >= _EARLIEST_S
        return Clock(column, stated, since, number or 0 if since else 0)
    if stated == "iso" or (usual == "iso" and found is None) or (
            number is None and _is_date(str(first))):
        said = "" if "iso" in (stated, usual) else (
            f"{column!r} holds dates; the first request arrives at 0 s")
        return Clock(column, "iso", since_1970=True, assumed=said)
    named = _unit_by_name(column)
    if number is None or found is None:
        unit: Unit = usual or named or "s"
        return Clock(column, unit, assumed="" if sure or named == unit else
                     f"{column!r} is taken as {_WORDS[unit]}; {_HINT}")
    if named is not None and named != found:
        raise RowFaultError(0, f"{column} is {number:g}; expected {_WORDS[named]}; if these are "
                               f"{_WORDS[found]}, divide them by {_ratio(named, found)} or state "
                               f"the clock {found}")
    day = datetime.fromtimestamp(number / _PER_S[found], UTC)
    return Clock(column, found, since_1970=True, first=number, assumed=(
        f"{column!r} is taken as {_WORDS[found]} since 1970 (first row: "
        f"{day:%Y-%m-%d %H:%M:%S} UTC); the first request arrives at 0 s; {_HINT}"))


def _ratio(unit: Unit, other: Unit) -> str:
    return f"{_PER_S[other] / _PER_S[unit]:g}"


def _number(value: object) -> float | None:
    """A JSON number or the number that a text holds, whole where it is written so."""
    if isinstance(value, str):
        for kind in (int, float):
            with suppress(ValueError, OverflowError):
                found = kind(value)
                return found if math.isfinite(found) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    return None


def _unit_since_1970(number: float) -> Unit | None:
    return next((unit for unit, per_s in _PER_S.items()
                 if _EARLIEST_S <= number / per_s < _LATEST_S), None)


def _unit_by_name(column: str) -> Unit | None:
    """The unit that the column's name ends with, such as ``timestamp_ms``."""
    ending = column.strip().lower().rpartition("_")[2]
    return unit_of(ending) if "_" in column and ending in _PER_S else None


def numbers_of(texts: Sequence[str], clock: Clock, first_row: int) -> NDArray[Any]:
    """The times of a column of texts, in the clock's unit, less its first moment.

    Raises RowFaultError for the first text that is not such a time.
    """
    if clock.unit == "iso":
        return _nanoseconds(texts, clock.column, first_row)
    if clock.since_1970 and isinstance(clock.first, int):
        with suppress(ValueError, OverflowError):  # exact: a float of nanoseconds is not
            return np.fromiter(map(int, texts), np.int64, len(texts)) - clock.first
    return parsed_numbers(clock.column, texts, first_row) - clock.first


def seconds_of(values: NDArray[Any], clock: Clock) -> FloatColumn:
    """Arrivals in seconds, from ``numbers_of`` all rows; moments count from the first of them."""
    per_s = 1e9 if clock.unit == "iso" else _PER_S[clock.unit]
    if clock.since_1970:
        finite = values[np.isfinite(values)]
        values = values - (finite.min() if len(finite) else 0)
    times: FloatColumn = values / per_s
    return times


def parsed_numbers(column: str, texts: Sequence[str], first_row: int) -> FloatColumn:
    """Texts as floats. Raises RowFaultError for the first text that is no number."""
    try:
        return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        raise _fault(column, texts, first_row, "a number", float) from None


def _nanoseconds(texts: Sequence[str], column: str, first_row: int) -> NDArray[np.int64]:
    """Dates as whole nanoseconds since 1970, so that the later subtraction is exact."""
    # numpy reads bare dates, as Azure wrote in 2023, five times as fast as datetime reads any. For
    # dates with a zone it warns.
    with suppress(ValueError, Warning), warnings.catch_warnings(action="error"):
        moments = np.array(texts, "datetime64[ns]")
        if not np.isnat(moments).any():
            return moments.astype(np.int64)
    try:
        return np.fromiter(map(_zoned_nanoseconds, texts), np.int64, len(texts))
    except ValueError:
        raise _fault(column, texts, first_row, "a date such as 2023-11-16 18:15:46.68",
                     datetime.fromisoformat) from None


def _fault(column: str, texts: Iterable[str], first_row: int, wanted: str,
           read: Any) -> RowFaultError:
    place, text = next((i, text) for i, text in enumerate(texts) if not _reads(text, read))
    found = repr(text[:40]) if text else "empty"
    return RowFaultError(first_row + place, f"{column.strip()} is {found}; expected {wanted}")


def _reads(text: str, read: Any) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    return _reads(text, datetime.fromisoformat)


def _zoned_nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    passed = moment.replace(tzinfo=None) - _EPOCH - (moment.utcoffset() or timedelta(0))
    return (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1000
