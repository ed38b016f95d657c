"""Command groups that import a command's module only when that command is called."""

import sys
from collections.abc import Collection, Mapping
from importlib import import_module
from itertools import groupby
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from penstock.cli.commands import FIRST_PAGE, IN_LAB, Entry, respelt
from penstock.core.errors import InputError, nearest


class ReaderGoneError(Exception):
    """Error for a pipe whose reader has closed it."""


class LazyGroup(TyperGroup):
    """Commands by the table: start-up pays for the one that is called."""

    entries: Mapping[str, Entry] = FIRST_PAGE
    names: Collection[str] = IN_LAB

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.entries:
            return None
        command = get_command(import_module(self.entries[cmd_name].module).app)
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            raise InputError(f"no command {args[0][:60]!r}{nearest(args[0][:60], self.names)}")
        return super().resolve_command(ctx, args)

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

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Typer would end with status 1, which means a missed target here.
            raise ReaderGoneError from error
