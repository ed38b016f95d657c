"""Every command of the command line, found by the table of commands."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from penstock.cli.commands import FIRST_PAGE, IN_LAB


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every command's function with its words."""
    def walk(words: str, app: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
        alone = len(app.registered_commands) == 1 and not app.registered_groups \
            and app.registered_callback is None
        for one in app.registered_commands:
            name = one.name or one.callback.__name__.replace("_", "-")
            yield words if alone else f"{words} {name}", one.callback
        for group in app.registered_groups:
            yield from walk(f"{words} {group.name}", group.typer_instance)

    for entry in (*FIRST_PAGE.values(), *IN_LAB.values()):
        if entry.name != "lab":
            yield from walk(entry.spelling, import_module(entry.module).app)
