"""Command groups that import a command's module only when that command is called."""

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import groupby
from typing import Any

from typer import Abort
from typer.core import TyperGroup
from typer.main import get_command

from penstock.cli.commands import FIRST_PAGE, IN_LAB, Entry, respelt
from penstock.cli.exits import ReaderGoneError
from penstock.core.errors import InputError, nearest


class LazyGroup(TyperGroup):
    """Commands by the table: start-up pays for the one that is called."""

    entries: Mapping[str, Entry] = FIRST_PAGE
    names: Collection[str] = IN_LAB

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = self.entries.get(cmd_name)
        app = import_module(entry.module).app if entry else self.plugged_in(cmd_name)
        if app is None:
            return None
        command = get_command(app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            self.check_plugged_in(args[0])
        return super().resolve_command(ctx, args)

    def plugged_in(self, name: str) -> Any:
        """Return the Typer app that a plug-in brings under this name, None without one."""
        return None

    def check_plugged_in(self, name: str) -> None:
        """Raise InputError with the nearest name unless a plug-in brings the command."""
        raise InputError(f"no command {name[:60]!r}{nearest(name[:60], self.names)}")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        formatter.write(f"Usage: {ctx.command_path} COMMAND ...\n\n{self.help}\n")
        width = max(map(len, self.entries))
        for group, entries in groupby(self.entries.values(), key=lambda entry: entry.group):
            formatter.write(f"\n{group}\n")
            for entry in entries:
                formatter.write(f"  {entry.name:<{width}}  {entry.summary}\n")
        formatter.write(f"\n{self.epilog}\n")


class LabGroup(LazyGroup):
    """The commands behind ``penstock lab``."""

    entries = IN_LAB


class FirstPage(LazyGroup):
    """The commands of ``penstock --help``; ``penstock lab`` has the others."""

    names = (*FIRST_PAGE, *(entry.spelling for entry in IN_LAB.values()))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        today = respelt(args)
        if today is not None:
            sys.stderr.write(f"`penstock {args[0]}` is now `penstock {today[0]}`; the old name "
                             "goes with the next release\n")
            args = today[1]
        return super().resolve_command(ctx, args)

    def plugged_in(self, name: str) -> Any:
        from penstock.registry.commands import PLUGGED_IN  # only for a name that is not built in

        return PLUGGED_IN.load(name)() if PLUGGED_IN.knows(name) else None

    def check_plugged_in(self, name: str) -> None:
        from penstock.registry.commands import PLUGGED_IN

        if not PLUGGED_IN.knows(name):
            known = (*self.names, *PLUGGED_IN.all_names())
            raise InputError(f"no command {name[:60]!r}{nearest(name[:60], known)}")

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        with _told():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: Any) -> Any:
        with _told():
            return super().invoke(ctx)


@contextmanager
def _told() -> Iterator[None]:
    """Let errors pass to ``main`` with which Typer would end by itself: with status 1, which means
    a missed target here, or with status 130 in silence."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except KeyboardInterrupt as error:
        raise Abort from error
