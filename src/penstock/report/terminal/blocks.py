"""Blocks of a report as ``rich`` prints them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from penstock.core.printable import printable
from penstock.report.model.table import Block, Note, Opening, Table
from penstock.report.terminal.fitting import FittingTable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType


class Line:
    """Phrases side by side; where the window ends, the next phrase begins a line."""

    def __init__(self, phrases: Sequence[str]) -> None:
        self.phrases = tuple(phrases)

    def __rich_console__(self, console: "Console",
                         options: "ConsoleOptions") -> "Iterator[RenderableType]":
        from rich.text import Text

        line = ""
        for phrase in self.phrases:
            longer = f"{line}   {phrase}" if line else phrase
            if line and len(longer) > options.max_width:
                yield Text(printable(line))
                longer = phrase
            line = longer
        yield Text(printable(line))


def drawn(blocks: Iterable[Block]) -> "Iterator[RenderableType]":
    """The blocks in order; brackets in a text are no markup."""
    from rich.text import Text

    for block in blocks:
        if isinstance(block, Table):
            yield FittingTable(block)
            yield from _footnote(block.notes)
        elif isinstance(block, Note):
            yield from _footnote(block.lines)
        elif isinstance(block, Opening):
            yield Text(printable(block.headline), style="bold")
            yield Line([f"{fact.label.lower()} {fact.value}" for fact in block.facts])
            yield Text(f"{printable(block.lede)}\n", style="dim")
        else:
            yield Text(printable(block))


def _footnote(lines: Sequence[str]) -> "Iterator[RenderableType]":
    from rich.text import Text

    if lines:
        yield Text(printable("\n".join(lines)) + "\n", style="dim")
