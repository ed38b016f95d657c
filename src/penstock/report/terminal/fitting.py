"""A terminal table that fits the reader's window and cuts no word; ``rich`` is imported late."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from penstock.core.printable import printable
from penstock.report.model.table import Cell, Column, Kind, Table, Tone
from penstock.report.model.wording import ABSENT

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table as RichTable
    from rich.text import Text

_MAX_HEADING_LINES = 3
_PROSE_WIDTH = 24  # a column of sentences wraps down to this
_SIGNS = {Tone.GOOD: ("✓", "green"), Tone.BAD: ("✗", "red"), Tone.PLAIN: (ABSENT, "dim")}


def cell_text(cell: Cell) -> "Text":
    """The cell in a terminal: signs carry the meaning, colours repeat it."""
    from rich.text import Text

    if cell.kind is Kind.VERDICT:
        sign, style = _SIGNS[cell.tone]
        return Text(f"{sign} {printable(cell.text)}", style=style)
    if cell.kind is Kind.MEMBER:
        return Text(f"  {printable(cell.text)}")
    text = printable(cell.text)
    return Text(f"▲ {text}", style="red") if cell.tone is Tone.BAD else Text(text)


class FittingTable:
    """Rows under headings that break at spaces, then lose columns, then stack, as width demands.

    Where the first ``keys`` columns say what a row is about, columns that do not fit stand below,
    beside those again.
    """

    def __init__(self, table: Table) -> None:
        self.title = table.title
        self.keys = table.keys
        self.columns = ((Column(table.by),) if table.by else ()) + table.columns
        self._rows: list[tuple[Text, ...]] = []
        self._sections: set[int] = set()
        for group in table.groups:
            if group.rows:
                self._add([*map(cell_text, group.head)],
                          [tuple(map(cell_text, row)) for row in group.rows],
                          beside=bool(table.by))
        if table.total is not None:
            self._add([cell_text(table.total[0])] if table.by else [],
                      [tuple(map(cell_text, table.total))], beside=bool(table.by))

    def _add(self, head: "list[Text]", rows: "list[tuple[Text, ...]]", *, beside: bool) -> None:
        """Add a group's rows, its head beside or above them, and part them from the next."""
        from rich.text import Text

        blank = tuple(Text() for _ in self.columns)
        if beside:
            lines = max(len(head), len(rows))
            head += [blank[0]] * (lines - len(head))
            rows = [(first, *row) for first, row in zip(
                head, rows + [blank[1:]] * (lines - len(rows)), strict=True)]
        else:
            rows = [*((line, *blank[1:]) for line in head), *rows]
        self._rows += rows
        self._sections.add(len(self._rows) - 1)

    def __rich_console__(self, console: "Console",
                         options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        yield Text(printable(self.title), style="bold")
        found = self._fitting(options.max_width)
        if found is None and self.keys:
            found = self._below(range(self.keys, len(self.columns)), options.max_width)
        if found is None:
            yield from self._stacked()
            return
        shown, lines = found
        yield self._table(shown, lines)
        left_out = [place for place in range(len(self.columns)) if place not in shown]
        if self.keys:
            while left_out and (below := self._below(left_out, options.max_width)):
                yield self._table(*below)
                left_out = [place for place in left_out if place not in below[0]]
        if left_out:
            names = ", ".join(self.columns[place].heading for place in left_out)
            yield Text(f"  not shown at this width: {names}\n", style="dim")

    def _fitting(self, width: int) -> tuple[list[int], int] | None:
        """Return the shown columns, and the lines over which their headings break."""
        for shown in self._choices():
            if lines := self._lines(shown, width):
                return shown, lines
        return None

    def _lines(self, shown: Sequence[int], width: int) -> int | None:
        """Over how few lines headings break for these columns to fit."""
        for lines in range(1, _MAX_HEADING_LINES + 1):
            if sum(self._width(place, lines) + 3 for place in shown) + 1 <= width:
                return lines
        return None

    def _below(self, left_out: Sequence[int], width: int) -> tuple[list[int], int] | None:
        """As many of the columns left out as fit beside the keys, and their headings' lines."""
        keys = list(range(self.keys))
        for num in range(len(left_out), 0, -1):
            if lines := self._lines([*keys, *left_out[:num]], width):
                return [*keys, *left_out[:num]], lines
        return None

    def _choices(self) -> Iterator[list[int]]:
        """All columns, then without the highest rank, and so on down to those of rank 0."""
        ranks = sorted({column.rank for column in self.columns} | {0}, reverse=True)
        for most in ranks:
            yield [place for place, column in enumerate(self.columns) if column.rank <= most]

    def _width(self, place: int, lines: int) -> int:
        column = self.columns[place]
        cells = max((_widest(row[place]) for row in self._rows), default=0)
        if column.prose:
            words = max((len(word) for row in self._rows for word in row[place].plain.split()),
                        default=0)
            cells = max(min(cells, _PROSE_WIDTH), words)
        return max(cells, *map(len, _broken(printable(column.heading), lines).split("\n")))

    def _table(self, shown: Sequence[int], lines: int) -> "RichTable":
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        table = RichTable(box=box.SIMPLE_HEAD)
        for place in shown:
            column = self.columns[place]
            left = column.left or column.prose or place == 0
            table.add_column(Text(_broken(printable(column.heading), lines)), vertical="top",
                             justify="left" if left else "right", no_wrap=not column.prose)
        for number, row in enumerate(self._rows):
            table.add_row(*(row[place] for place in shown),
                          end_section=number in self._sections and number + 1 < len(self._rows))
        return table

    def _stacked(self) -> "Iterator[RenderableType]":
        """A line per cell, for windows that even the columns that matter do not fit."""
        from rich.text import Text

        for row in self._rows:
            yield Text(f"  {row[0].plain}")
            for column, cell in zip(self.columns[1:], row[1:], strict=True):
                if cell.plain and (self.keys or not column.rank):
                    yield Text(f"    {printable(column.heading)}: ") + cell
        yield Text()


def _broken(heading: str, lines: int) -> str:
    """The heading over at most ``lines`` lines, as narrow as its words allow."""
    words = heading.split()
    for width in range(max(map(len, words), default=1), len(heading) + 1):
        found = textwrap.wrap(heading, width, break_long_words=False, break_on_hyphens=False)
        if len(found) <= lines:
            return "\n".join(found)
    return heading


def _widest(cell: "Text") -> int:
    from rich.cells import cell_len

    return max((cell_len(line) for line in cell.plain.split("\n")), default=0)
