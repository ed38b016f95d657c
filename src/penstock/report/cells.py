"""Cells and lines of terminal tables; ``rich`` is imported late."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from penstock.report import wording

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.text import Text


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
                yield Text(line)
                longer = phrase
            line = longer
        yield Text(line)


def footnote(text: str) -> "Text":
    """Return a note to stand below a table."""
    from rich.text import Text

    return Text(f"{text}\n" if text else "", style="dim", end="\n" if text else "")


def verdict_cell(meets: bool | None, text: str | None = None) -> "Text":
    """A verdict with a sign and a colour, in its usual words or in others."""
    from rich.text import Text

    sign, style = {True: ("✓", "green"), False: ("✗", "red"), None: (wording.ABSENT, "dim")}[meets]
    return Text(f"{sign} {text or wording.verdict(meets)}", style=style)


def marked(text: str, over: bool | None) -> "Text":
    """A figure, with a sign and a colour when it breaks its target."""
    from rich.text import Text

    return Text(f"▲ {text}", style="red") if over else Text(text)
