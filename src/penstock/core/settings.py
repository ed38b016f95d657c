"""Kinds of settings that a named implementation accepts."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from penstock.core.errors import nearest

LARGEST = 1e9
"""Default upper bound of a number."""


class Number(NamedTuple):
    """A number within bounds, whole where ``whole``."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        right = (isinstance(value, int) and not isinstance(value, bool)) or (
            isinstance(value, float) and not self.whole)
        if right and self.low <= value <= self.high:  # type: ignore[operator]
            return ""
        what = "a whole number" if self.whole else "a number"
        return f"expected {what} from {self.low:g} to {self.high:g}"


class Word(NamedTuple):
    """One of some words."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        return "" if value in self.words else f"expected one of {', '.join(self.words)}"


class Words(NamedTuple):
    """A list of some words, each at most once."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        right = isinstance(value, (list, tuple)) and all(word in self.words for word in value) \
            and len(set(value)) == len(value)
        return "" if right else f"expected a list of {', '.join(self.words)}"


class Flag(NamedTuple):
    """True or false."""

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        return "" if isinstance(value, bool) else "expected true or false"


class Text(NamedTuple):
    """Any text."""

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        return "" if isinstance(value, str) and value else "expected a name"


class Shares(NamedTuple):
    """Names with numbers of at least 0, not all 0."""

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        if not isinstance(value, Mapping):
            return "expected names with shares"
        right = all(isinstance(share, (int, float)) and 0 <= share <= LARGEST
                    for share in value.values())
        return "" if right and any(value.values()) else "expected names with shares"


class Steps(NamedTuple):
    """Rows of a time in seconds and one whole number or more, in rising order of time."""

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        expected = "expected rows of a time and whole numbers, such as [[0, 2], [3600, 5]]"
        if not isinstance(value, (list, tuple)) or not value:
            return expected
        if not all(isinstance(row, (list, tuple)) and len(row) >= 2
                   and _is_time(row[0]) and all(_is_count(one) for one in row[1:])
                   for row in value):
            return expected
        if len({len(row) for row in value}) > 1:
            return "expected as many numbers in every row"
        return "" if all(a[0] < b[0] for a, b in pairwise(value)) else "expected rising times"


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= LARGEST


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


class Table(NamedTuple):
    """Rows of named values, each column with a kind of its own. ``required`` columns are in every
    row."""

    columns: "Mapping[str, Number | Word | Words | Flag | Text]"
    required: tuple[str, ...] = ()

    def problem(self, value: object) -> str:
        """Why a value is refused, empty if it is accepted."""
        if not isinstance(value, (list, tuple)) or not value \
                or not all(isinstance(row, Mapping) for row in value):
            return f"expected rows of {', '.join(self.columns)}"
        for i, row in enumerate(value):
            for name in self.required:
                if name not in row:
                    return f"row {i}: expected {name}"
            for name, one in row.items():
                if name not in self.columns:
                    return f"row {i}: unknown {str(name)[:60]!r}{nearest(str(name), self.columns)}"
                if problem := self.columns[name].problem(one):
                    return f"row {i}: {name}: {problem}"
        return ""


Setting = Number | Word | Words | Flag | Text | Shares | Steps | Table
Settings = Mapping[str, Setting]
"""The settings that an implementation declares, by name."""


def unknown_setting(key: str, known: Settings) -> str:
    """Return the hint for an unknown setting: the nearest known one."""
    return nearest(key, known) or "; it takes none"


def refused(given: Mapping[str, Any], known: Settings) -> Iterator[tuple[str, str]]:
    """Yield the keys of known settings whose value is invalid, each with the reason."""
    for key, value in given.items():
        if key in known and (problem := known[key].problem(value)):
            yield key, problem
