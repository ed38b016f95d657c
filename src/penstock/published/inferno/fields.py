"""Reading Inferno's JSON: keys in any case, unknown keys ignored, errors that name the place."""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from penstock.core.errors import InputError, kind_of, quote

# Numbers beyond this are a slip, and would not survive arithmetic in 32-bit floats.
MAX_COUNT = 10**9
# What is nearer to 0 than this is 0 to a 32-bit float, or nearly so once it is divided.
_LEAST = 1e-30


class Fields:
    """One JSON object. ``where`` names it in errors; a key that is absent or null is not there."""

    def __init__(self, value: Any, where: str) -> None:
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: found {kind_of(value)}; expected an object")
        self.where = where
        self._values: dict[str, Any] = {}
        for key, item in value.items():
            if item is None:
                continue
            folded = str(key).lower()
            if folded in self._values:
                raise InputError(f"{where}: key {key!r} is there twice (keys match in any case)")
            self._values[folded] = item

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def number(self, name: str, default: float = 0.0, *, negative: bool = False) -> float:
        """A finite number, at least 0 unless ``negative``."""
        value = self._values.get(name.lower(), default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(name, value, "a number")
        if not math.isfinite(value) or abs(value) > MAX_COUNT:
            raise self._wrong(name, value, f"a number up to {MAX_COUNT}")
        if value < 0 and not negative:
            raise self._wrong(name, value, "at least 0")
        return float(value) if abs(value) >= _LEAST else 0.0

    def count(self, name: str, default: int = 0, *, negative: bool = False,
              least: int = 0, most: int = MAX_COUNT) -> int:
        """A whole number, at least ``least`` unless ``negative``."""
        value = self.number(name, default, negative=True)
        if value < least and not negative:
            raise self._wrong(name, self._values[name.lower()], f"at least {least}")
        if value != int(value) or abs(value) > most:
            raise self._wrong(name, self._values[name.lower()], f"a whole number up to {most}")
        return int(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of positive finite numbers; it must be there."""
        values = self._values.get(name.lower())
        if not isinstance(values, list):
            raise self._wrong(name, values, "a list of numbers")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not (
                    0 < value <= MAX_COUNT):
                raise self._wrong(name, value, f"a number above 0, up to {MAX_COUNT}")
        return tuple(map(float, values))

    def text(self, name: str, default: str | None = None) -> str:
        """A text; without ``default`` it must be there and hold something."""
        value = self._values.get(name.lower(), default)
        if value is None:
            raise InputError(f"{self.where}: {name!r} is missing")
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        if not value and default is None:
            raise self._wrong(name, value, "a name")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false when absent."""
        value = self._values.get(name.lower(), False)
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def part(self, name: str) -> "Fields":
        """An object inside this one; empty when absent."""
        return Fields(self._values.get(name.lower(), {}), f"{self.where}: {name}")

    def parts(self, name: str) -> list["Fields"]:
        """A list of objects; empty when absent."""
        value = self._values.get(name.lower(), [])
        if not isinstance(value, list):
            raise self._wrong(name, value, "a list")
        return [Fields(item, f"{self.where}: {name}[{i}]") for i, item in enumerate(value)]

    def require(self, name: str) -> None:
        """Raises InputError when a part that gives the object its sense is absent."""
        if name not in self:
            close = get_close_matches(name.lower(), self._values, n=1, cutoff=0.7)
            hint = f"; found {close[0]!r}" if close else ""
            raise InputError(f"{self.where}: {name!r} is missing{hint}")

    def _wrong(self, name: str, value: Any, expected: str) -> InputError:
        return InputError(f"{self.where}: {name}: found {quote(value)}; expected {expected}")
