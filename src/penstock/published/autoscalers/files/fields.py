"""Fields of an autoscaler's file. A field that nothing asks for is an error, never ignored."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from penstock.core.errors import InputError, nearest, one_of, suggested
from penstock.fleet.marked_yaml import MarkedData, Path
from penstock.fleet.problems import dotted, quote

_QUANTITY = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(|n|u|m|k|M|G|T|Ki|Mi|Gi|Ti)")
_SCALE = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
          "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]*)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_LARGEST = 1e9


class Fields:
    """One mapping of the file, whose fields are asked for by name.

    ``end`` raises InputError for the first field that nobody asked for.
    """

    def __init__(self, marked: MarkedData, path: Path = ()) -> None:
        self._marked = marked
        self.path = path
        self._data = _at(marked.data, path)
        self._asked: set[str] = set()
        if not isinstance(self._data, dict):
            raise InputError(f"{marked.place(path)}: {dotted(path)}: expected a mapping, found "
                             f"{quote(self._data)}")

    def has(self, key: str) -> bool:
        """Whether a field is given, and not null."""
        self._asked.add(key)
        return self._data.get(key) is not None

    def raw(self, key: str) -> Any:
        """Return a field as the file has it, None where it is left out."""
        self._asked.add(key)
        return self._data.get(key)

    def unused(self, *keys: str) -> None:
        """Accept fields that change no decision, such as the name of an object."""
        self._asked.update(keys)

    def refuse(self, key: str, reason: str) -> None:
        """Raise InputError with the reason where a field is given that the law cannot honour."""
        if self._data.get(key) is not None:
            raise self.error(key, reason)

    def section(self, key: str) -> "Fields | None":
        """Return a mapping, None where it is left out."""
        return Fields(self._marked, (*self.path, key)) if self.has(key) else None

    def needed(self, key: str) -> "Fields":
        """Return a mapping that must be given."""
        found = self.section(key)
        if found is None:
            raise self.error(None, f"expected {key}")
        return found

    def rows(self, key: str) -> "list[Fields]":
        """Return the mappings of a list, none where it is left out."""
        found = self.raw(key)
        if found is None:
            return []
        if not isinstance(found, list):
            raise self.error(key, f"expected a list, found {quote(found)}")
        return [Fields(self._marked, (*self.path, key, i)) for i in range(len(found))]

    def number(self, key: str, default: float | None = None, *, low: float = 0.0,
               high: float = _LARGEST, read: Callable[[Any], float | None] | None = None) -> float:
        """Return a number within bounds, by default one that YAML or a text has."""
        found = self.raw(key)
        if found is None:
            if default is None:
                raise self.error(None, f"expected {key}")
            return default
        value = (read or plain)(found)
        if value is None or not low <= value <= high:
            raise self.error(key, f"expected a number from {low:g} to {high:g}, found "
                                  f"{quote(found)}")
        return value

    def whole(self, key: str, default: int | None = None, *, low: int = 0,
              high: int = int(_LARGEST)) -> int:
        """Return a whole number within bounds."""
        value = self.number(key, default, low=low, high=high)
        if value != int(value):
            raise self.error(key, f"expected a whole number, found {quote(self.raw(key))}")
        return int(value)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text."""
        found = self.raw(key)
        if found is None and default is not None:
            return default
        if not isinstance(found, str) or not found:
            raise self.error(key if key in self._data else None,
                             f"expected {key}, a text" if found is None else
                             f"expected a text, found {quote(found)}")
        return found

    def word(self, key: str, words: Iterable[str], default: str | None = None) -> str:
        """Return one of some words."""
        found, known = self.text(key, default), list(words)
        if found not in known:
            raise self.error(key, f"{quote(found)} is not supported{nearest(found, known)}"
                             if len(known) > 1 else
                             f"{quote(found)} is not supported{one_of(known)}")
        return found

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false, also as the text of either."""
        found = self.raw(key)
        words: Mapping[Any, bool] = {True: True, False: False, "true": True, "false": False}
        if found is None:
            return default
        if not isinstance(found, (bool, str)) or found not in words:
            raise self.error(key, f"expected true or false, found {quote(found)}")
        return words[found]

    def error(self, key: str | None, reason: str) -> InputError:
        """Return the error for a field, or for the whole mapping."""
        path = self.path if key is None else (*self.path, key)
        where = f"{dotted(path)}: " if path else ""
        return InputError(f"{self._marked.place(path)}: {where}{reason}")

    def end(self, among: str = "") -> None:
        """Raise InputError for the first field, of those whose names contain ``among``, that nobody
        asked for."""
        for key in self._data:
            if key not in self._asked and among in str(key):
                raise self.error(str(key), f"is not supported{hint(str(key), self._asked)}")


def hint(name: str, known: Iterable[str]) -> str:
    """Return the nearest supported name, and all supported names."""
    names = list(known)
    found = nearest(name[:60], names)
    return found if suggested(found) is None else f"{found} (supported: {', '.join(sorted(names))})"


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def plain(value: Any) -> float | None:
    """Return a number, also of a text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def quantity(value: Any) -> float | None:
    """Return a quantity of Kubernetes, such as ``500m`` for 0.5; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    found = _QUANTITY.fullmatch(str(value))
    return float(found[1]) * _SCALE[found[2]] if found else plain(value)


def duration_s(value: Any) -> float | None:
    """Return the seconds of a duration such as ``1m30s``; None for anything else. A text without
    a unit is no duration, as in Go."""
    if not isinstance(value, str):
        return None
    parts = _DURATION.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
