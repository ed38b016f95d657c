"""Tables and the texts around them, as values. A renderer draws them in a terminal or on a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple, Self

from penstock.report.model import wording


class Tone(Enum):
    """How a cell is judged."""

    PLAIN = ""
    GOOD = "good"
    BAD = "bad"
    MUTED = "muted"


class Kind(Enum):
    """The role of a cell, which decides how its tone is drawn."""

    FIGURE = "figure"    # a bad one is above its target
    VERDICT = "verdict"  # a sign beside words
    LIMIT = "limit"      # an upper bound
    NAME = "name"        # the subject of a row or group
    MEMBER = "member"    # a part of the subject above it


@dataclass(frozen=True, slots=True)
class Bar:
    """A share to draw beside its text, with its interval and its goal where it has them."""

    share: float
    interval: tuple[float, float] | None = None
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and its emphasis.

    ``series`` is the place of the cell's subject among those that have a colour. ``parts`` are the
    text's lines with a detail each, for a renderer that has room to set them apart.
    """

    text: str
    tone: Tone = Tone.PLAIN
    kind: Kind = Kind.FIGURE
    strong: bool = False
    series: int | None = None
    bar: Bar | None = None
    parts: tuple[tuple[str, str], ...] = ()


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading with its unit and alignment, and the column's fate in a narrow window.

    Columns of the highest ``rank`` are left out first, those of rank 0 never. A ``prose`` column
    wraps at spaces; all other cells stay in one piece. The first column is always ``left``.
    """

    title: str
    rank: int = 0
    left: bool = False
    prose: bool = False
    unit: str = ""

    @property
    def heading(self) -> str:
        """The title with the unit of the column's figures."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that belong together under ``head``, which has a line for each level.

    ``verdict`` and ``details`` say more of the head where there is room.
    """

    rows: tuple[Row, ...]
    head: tuple[Cell, ...] = ()
    verdict: Cell | None = None
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Groups of rows under columns, a total and notes.

    The first ``keys`` columns name the subject of a row. With ``by``, heads of groups are cells of
    a column of that title, otherwise rows of their own.
    """

    title: str
    columns: tuple[Column, ...]
    groups: tuple[Group, ...] = ()
    total: Row | None = None
    notes: tuple[str, ...] = ()
    keys: int = 0
    by: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells for {len(self.columns)} columns")

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, the total last."""
        return (*(row for group in self.groups for row in group.rows),
                *(() if self.total is None else (self.total,)))

    def select(self, *titles: str) -> Self:
        """The table of these columns, in this order; titles that it lacks are passed over."""
        known = {column.title: place for place, column in enumerate(self.columns)}
        return self._of([known[title] for title in titles if title in known])

    def without(self, *titles: str) -> Self:
        """The table of all other columns."""
        return self._of([place for place, column in enumerate(self.columns)
                         if column.title not in titles])

    def _of(self, places: Sequence[int]) -> Self:
        def cut(row: Row) -> Row:
            return tuple(row[place] for place in places)

        return replace(
            self, columns=tuple(self.columns[place] for place in places),
            groups=tuple(replace(group, rows=tuple(map(cut, group.rows)))
                         for group in self.groups),
            total=None if self.total is None else cut(self.total))

    def split(self, title: str) -> list[Self]:
        """A table for each group, ``title`` and the group's head above it."""
        return [replace(self, title=f"{title} {group.head[-1].text}", by="",
                        groups=(replace(group, head=()),)) for group in self.groups]

    def flat(self) -> Self:
        """The table with all rows in one group."""
        return replace(self, groups=(Group(tuple(row for group in self.groups
                                                 for row in group.rows)),))


@dataclass(frozen=True, slots=True)
class Note:
    """Lines that stand by themselves."""

    lines: tuple[str, ...]


class Verdict(NamedTuple):
    """Whether something meets its objectives, in words, and what they are."""

    meets: bool | None
    text: str
    detail: str


@dataclass(frozen=True, slots=True)
class Opening:
    """The outcome in a sentence, its figures and its subject. ``whose`` names the verdicts."""

    headline: str
    facts: Sequence[wording.Fact]
    lede: str
    more: str = ""
    whose: str = ""
    verdicts: Sequence[Verdict] = ()


Block = Table | Note | Opening | str


def table(title: str, columns: Iterable[str | Column], rows: Iterable[Sequence[object]] = (), *,
          groups: Iterable[Group] = (), total: Sequence[object] | None = None,
          notes: Iterable[str] = (), keys: int = 0, by: str = "") -> Table:
    """A table of rows, or of groups of them; what is no cell is taken by its text."""
    of_rows = tuple(map(cells, rows))
    return Table(title, tuple(column if isinstance(column, Column) else Column(column)
                              for column in columns),
                 (*groups, *((Group(of_rows),) if of_rows else ())),
                 None if total is None else cells(total), tuple(filter(None, notes)), keys, by)


def group(rows: Iterable[Sequence[object]], *head: object, verdict: Cell | None = None,
          details: Sequence[str] = ()) -> Group:
    """A group of rows below the lines of its head."""
    return Group(tuple(map(cells, rows)), cells(head), verdict, tuple(details))


def cells(values: Iterable[object]) -> Row:
    """A row of values; what is no cell is taken by its text."""
    return tuple(value if isinstance(value, Cell) else Cell(str(value)) for value in values)


def verdict_tone(meets: bool | None) -> Tone:
    """The tone of a verdict, plain without one."""
    return {True: Tone.GOOD, False: Tone.BAD, None: Tone.PLAIN}[meets]


def verdict(meets: bool | None, text: str | None = None) -> Cell:
    """A verdict in its usual words or in others."""
    return Cell(text or wording.verdict(meets), verdict_tone(meets), Kind.VERDICT)


def judged(text: str, over: bool | None) -> Cell:
    """A figure; ``over`` says whether it is above the target that binds it, None without one."""
    return Cell(text, verdict_tone(None if over is None else not over))


def limit(text: str) -> Cell:
    """The most that a figure may be."""
    return Cell(text, Tone.MUTED if text == wording.ABSENT else Tone.PLAIN, Kind.LIMIT)


def name(text: str, series: int | None = None) -> Cell:
    """The subject of a row or group."""
    return Cell(text, kind=Kind.NAME, series=series)


def member(text: str) -> Cell:
    """A part of the subject above."""
    return Cell(text, kind=Kind.MEMBER)


def strong(text: str) -> Cell:
    """A text that stands out where there is a heavier face."""
    return Cell(text, strong=True)


def muted(text: str) -> Cell:
    """A text that steps back; an empty one says that there is nothing."""
    return Cell(text, Tone.MUTED)


def count(value: int) -> Cell:
    """A whole number, nought stepping back."""
    text = wording.count(value)
    return Cell(text) if value else muted(text)


def with_bar(text: str, bar: Bar | None, series: int | None = None) -> Cell:
    """A figure with its bar, in the colour of its series."""
    return Cell(text, Tone.MUTED if text == wording.ABSENT else Tone.PLAIN, series=series, bar=bar)
