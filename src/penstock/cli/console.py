"""Terminal output: results on stdout, progress on stderr."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from penstock.core.printable import printable

if TYPE_CHECKING:
    from penstock.report.model.table import Block

# Wide enough for every table where nobody says how wide the reader's window is.
_FILE_WIDTH = 120


class Update(Protocol):
    """Says what happens now; without ``done``, one more unit of the total is."""

    def __call__(self, text: str, done: int | None = None) -> None: ...


def print_tables(blocks: "Iterable[Block]") -> None:
    """Print tables and texts in order; brackets in a text are no markup.

    As wide as the terminal, or as COLUMNS says; into a file or pipe, as every table needs.
    """
    from rich.console import Console

    from penstock.report.terminal.blocks import drawn

    stated = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    console = Console(width=None if stated else _FILE_WIDTH, highlight=False)
    # Rich ends the process when the reader of a pipe has gone; main has its own way.
    with console.capture() as captured:
        for block in drawn(blocks):
            console.print(block)
    sys.stdout.write(captured.get())


def print_json(document: Any) -> None:
    """Print one JSON document; values and named tuples become lists.

    In ASCII where stdout's encoding lacks characters, so that none is lost.
    """
    import json

    import orjson

    from penstock.core.value import plain_fields

    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    text = orjson.dumps(document, default=plain_fields, option=options).decode()
    if not text.isascii() and not (sys.stdout.encoding or "utf-8").lower().startswith("utf"):
        text = f"{json.dumps(orjson.loads(text), indent=2)}\n"
    sys.stdout.write(printable(text))


def print_line(text: str) -> None:
    """A line of the result that is never broken, for other programs to read."""
    sys.stdout.write(f"{printable(text)}\n")


def note(text: str) -> None:
    """A line beside the result: on stderr, so that stdout can be piped."""
    sys.stderr.write(f"{printable(text)}\n")


@contextmanager
def progress(title: str, total: int | None = None) -> Iterator[Update]:
    """A progress bar on a terminal's stderr that leaves no trace there, elsewhere nothing."""
    if not sys.stderr.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        yield _say_nothing  # a bar that cannot be erased would stay
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(),
               TextColumn("{task.fields[text]}"), TimeElapsedColumn())
    console = Console(stderr=True, width=_stderr_width())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task(title, total=total, text="")

        def update(text: str, done: int | None = None) -> None:
            if done is None:
                bars.update(task, advance=1, text=text)
            else:
                bars.update(task, completed=done, text=text)

        yield update


@contextmanager
def counting(title: str, total: int) -> Iterator[Callable[[str, int], None]]:
    """Progress of ``total`` runs; yields what to call after each, with its label and seed."""
    with progress(title, total) as update:
        done = count(1)
        yield lambda label, seed: update(f"{next(done)} of {total}: {label}, seed {seed}")


def _stderr_width() -> int | None:
    """The terminal's own width: a bar as wide as COLUMNS may take lines that nobody erases."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _say_nothing(text: str, done: int | None = None) -> None:
    """Progress that nobody would read."""
