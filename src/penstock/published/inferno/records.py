"""A published record compared with ours, field by field."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.published.figures import Figure

# Upstream computes in 32-bit floats; waits are small differences of long times.
RELATIVE = 2e-3
WAIT_MS = 0.05
COST = 1e-6
# The files keep four decimals of an allocation.
ROUNDED = 1e-4


@dataclass(frozen=True, slots=True)
class Field:
    """One published value beside ours. ``allowed`` is the largest difference of two numbers; texts,
    truth values and lists must be equal. ``informative`` fields are not judged."""

    name: str
    published: Any
    ours: Any
    allowed: float = 0.0
    informative: bool = False

    @property
    def numeric(self) -> bool:
        """Whether a difference means something."""
        return all(isinstance(value, int | float) and not isinstance(value, bool)
                   for value in (self.published, self.ours))

    @property
    def agrees(self) -> bool:
        """Whether ours is close enough."""
        if self.informative:
            return True
        if self.numeric:
            return bool(abs(self.ours - self.published) <= self.allowed)
        return bool(self.published == self.ours)

    @property
    def strain(self) -> float:
        """Difference over what is allowed: above 1 is beyond tolerance, and so is inequality."""
        if self.informative:
            return -1.0
        if not self.agrees:
            return abs(self.ours - self.published) / (self.allowed or 1e-300) \
                if self.numeric else float("inf")
        if self.numeric and self.allowed:
            return float(abs(self.ours - self.published) / self.allowed)
        return 0.0


@dataclass(frozen=True, slots=True)
class Record:
    """One record of one file. ``note`` says what a reader must know to trust the comparison,
    ``headline`` which field stands for all while all agree; otherwise the worst does."""

    file: str
    name: str
    fields: tuple[Field, ...]
    note: str = ""
    headline: str = ""

    @property
    def judged(self) -> bool:
        """Whether any field is."""
        return not all(field.informative for field in self.fields)

    @property
    def agrees(self) -> bool:
        """Whether every field does."""
        return all(field.agrees for field in self.fields)

    @property
    def worst(self) -> Field:
        """The field that is nearest to, or furthest beyond, its tolerance."""
        return max(self.fields, key=lambda field: field.strain)

    def figure(self) -> Figure:
        """The record as one line."""
        worst = next((field for field in self.fields
                      if self.agrees and field.name == self.headline), self.worst)
        file = self.file.removeprefix("golden_").removesuffix(".json")
        name = f"{file} {self.name}: {worst.name} ({len(self.fields)} fields)"
        if not self.judged:
            return Figure(f"{file} {self.name}", None, 0.0, "shown", 0.0, self.note)
        if worst.numeric:
            if worst.informative:
                return Figure(name, float(worst.published), float(worst.ours), "shown", 0.0,
                              self.note)
            return Figure(name, float(worst.published), float(worst.ours), "absolute",
                          worst.allowed, self.note)
        return Figure(f"{name} ({_text(worst.published)} / {_text(worst.ours)})", 1.0,
                      float(worst.agrees), "exact", 0.0, self.note)

    def as_dict(self) -> dict[str, Any]:
        """Every field, for JSON."""
        return {"file": self.file, "name": self.name, "agrees": self.agrees, "note": self.note,
                "fields": [{"field": f.name, "published": f.published, "ours": f.ours,
                            "allowed": None if f.informative else f.allowed, "agrees": f.agrees}
                           for f in self.fields]}


def near(name: str, published: float, ours: float, relative: float = RELATIVE,
         absolute: float = 0.0) -> Field:
    """A number within a share of the published one, or ``absolute`` of it if that is more."""
    return Field(name, published, ours, max(relative * abs(published), absolute))


def equal(name: str, published: Any, ours: Any) -> Field:
    """A value that must be the same."""
    return Field(name, published, ours)


def items(document: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Name and content of each record of a list or an object."""
    if isinstance(document, dict):
        yield from document.items()
    elif isinstance(document, list):
        yield from ((str(number), item) for number, item in enumerate(document))
    else:
        raise InputError(f"{where}: expected a list or an object of records")


def summary(records: Iterable[Record]) -> dict[str, tuple[int, int, int]]:
    """Per file: records, those that agree, fields compared."""
    found: dict[str, tuple[int, int, int]] = {}
    for record in records:
        if not record.judged:
            continue
        number, good, fields = found.get(record.file, (0, 0, 0))
        found[record.file] = (number + 1, good + record.agrees, fields + len(record.fields))
    return found


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
