"""Conditions on the columns of kept runs, and their order."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from math import isfinite
from typing import NamedTuple

from penstock.core.errors import InputError, nearest
from penstock.experiment.runs.kept import COLUMNS

_CONDITION = re.compile(r"\s*(\w+)\s*(<=|>=|!=|==|=|<|>)\s*(.*?)\s*", re.DOTALL)
_MOMENT = "begun_s"


class Condition(NamedTuple):
    """Comparison of a column, as SQL with its parameters."""

    sql: str
    values: tuple[str | float, ...] = ()


class Order(NamedTuple):
    """Column to sort by."""

    column: str
    descending: bool

    @property
    def sql(self) -> str:
        """Terms of ORDER BY: absent values last, equal values from new to old."""
        return f'"{self.column}" IS NULL, "{self.column}" {"DESC" if self.descending else "ASC"}'


NEWEST_FIRST = Order(_MOMENT, descending=True)


def read_condition(text: str) -> Condition:
    """Return the condition of a text such as ``attainment<0.99``.

    ``=`` and ``!=`` take a pattern with ``*`` and ``?`` for texts; an empty value means that there
    is none. Raises InputError.
    """
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise InputError(f"--where {text[:60]!r}: expected KEY=VALUE or another comparison, such "
                         "as attainment<0.99")
    column, sign, value = _column("--where", found[1]), found[2].replace("==", "="), found[3]
    if sign in ("=", "!="):
        negation = "" if sign == "=" else "NOT "
        if not value:
            return Condition(f'"{column}" IS {negation}NULL')
        if COLUMNS[column] is str and re.search(r"[*?]", value):
            return Condition(f"COALESCE(\"{column}\", '') {negation}GLOB ?",
                             (value.replace("[", "[[]"),))
        return Condition(f'"{column}" IS {negation}?', (_value(column, value, text),))
    return Condition(f'"{column}" {sign} ?', (_value(column, value, text),))


def read_order(text: str) -> Order:
    """Return the order of a column's name; a minus before the name means descending. Raises
    InputError."""
    return Order(_column("--sort", text.removeprefix("-")), text.startswith("-"))


def _column(option: str, name: str) -> str:
    if name not in COLUMNS:
        raise InputError(f"{option} {name[:60]}: no such key{nearest(name[:60], COLUMNS)}")
    return name


def _value(column: str, text: str, condition: str) -> str | float:
    if COLUMNS[column] is str:
        return text
    with suppress(ValueError):
        number = float(text)
        if isfinite(number):
            return number
    if column == _MOMENT:
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise InputError(f"--where {condition[:60]!r}: found {text[:40]!r}; expected a date in "
                             "UTC such as 2026-01-31, or seconds since 1970") from None
    raise InputError(f"--where {condition[:60]!r}: found {text[:40]!r}; expected a number")
