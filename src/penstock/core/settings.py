"""Kinds of settings that a named implementation accepts."""

from collections.abc import Iterator, Mapping
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


Setting = Number | Word | Words | Flag | Text | Shares
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
