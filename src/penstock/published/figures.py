"""A published figure beside ours, and when the two agree."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock.experiment.workers import ALONE, Executor

Kind = Literal["relative", "absolute", "at_most", "at_least", "exact", "shown"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of a system's publication or data, and ours.

    ``kind`` says what agreement means: ``relative`` allows a deviation of ``tolerance`` (a share of
    the published value), ``absolute`` one in the figure's own unit; ``at_most`` and ``at_least``
    bound ours by the published value give or take ``tolerance``, ``exact`` wants equality and
    ``shown`` wants nothing.
    """

    name: str
    published: float | None
    ours: float
    kind: Kind = "relative"
    tolerance: float = 0.0
    note: str = ""

    @property
    def deviation(self) -> float | None:
        """(ours - published) / published; None without a published value other than 0."""
        return self.ours / self.published - 1.0 if self.published else None

    @property
    def agrees(self) -> bool:
        """Whether ours is within what ``kind`` allows."""
        if self.kind == "shown" or self.published is None:
            return True
        if self.kind == "exact":
            return self.ours == self.published
        if self.kind == "absolute":
            return abs(self.ours - self.published) <= self.tolerance
        slack = self.tolerance * abs(self.published)
        if self.kind == "at_most":
            return self.ours <= self.published + slack
        if self.kind == "at_least":
            return self.ours >= self.published - slack
        return abs(self.ours - self.published) <= slack


@dataclass(frozen=True, slots=True)
class Options:
    """How much work a reproduction may do. ``num_requests`` caps long runs, and the arrivals
    that a search plans for (None: as documented);
    ``on_progress`` is told what is being computed; ``where`` computes the runs."""

    seed: int = 0
    num_requests: int | None = None
    on_progress: Callable[[str], None] = lambda _: None
    where: Executor = ALONE


@dataclass(frozen=True, slots=True)
class Reproduction:
    """All figures of a system. ``rows`` are extra tables by file name, for ``--out``; ``records``
    is what figures sum up, field by field, for JSON; ``remarks`` say what a reader must know.
    ``tables`` are printed before the figures, by title; fractions in them are relative errors."""

    system: str
    figures: tuple[Figure, ...]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    records: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def agrees(self) -> bool:
        """Whether every figure agrees."""
        return all(figure.agrees for figure in self.figures)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        more: dict[str, Any] = {"records": list(self.records)} if self.records else {}
        if self.remarks:
            more["remarks"] = list(self.remarks)
        return {"system": self.system, "agrees": self.agrees, **more, "figures": [
            {"name": f.name, "published": f.published, "ours": f.ours, "deviation": f.deviation,
             "kind": f.kind, "tolerance": f.tolerance, "agrees": f.agrees, "note": f.note}
            for f in self.figures]}
