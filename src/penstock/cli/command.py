"""Commands as a user meets them: help pages, old names of options, options that state fields."""

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand

from penstock.cli.exits import ReaderGoneError


class FieldText:
    """Converts an option's text as the field at ``path``, of the fleet file or of a request, would
    be read.

    Typer names a parameter's type by ``__name__``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.__name__ = path.rpartition(".")[2].upper()

    def __call__(self, text: Any) -> Any:
        if not isinstance(text, str):  # a default
            return text
        from penstock.core.errors import InputError
        from penstock.fleet.declared import field_value

        try:
            return field_value(self.path, text)
        except InputError as error:
            raise typer.BadParameter(str(error)) from None


def states(name: str, path: str, metavar: str) -> Any:
    """An option that states the field at ``path``; its help is the field's own."""
    return typer.Option(name, metavar=metavar, help=f"{{{path}}}", show_default=False,
                        parser=FieldText(path))


def replaces(name: str, path: str, metavar: str) -> Any:
    """An option that replaces the fleet file's value of the field at ``path``."""
    return typer.Option(name, metavar=metavar, help=f"{{={path}}}", show_default=False,
                        parser=FieldText(path))


def worded(name: str, path: str, metavar: str | None = None) -> Any:
    """An option with the help of the field at ``path``: a flag, a word, or a text that its command
    turns into the field's value. A default is the command's own."""
    return typer.Option(name, metavar=metavar, help=f"{{~{path}}}", show_default=False)


_FIELD = re.compile(r"\{([=~]?)([a-z0-9_.:]+)\}")
_NUM_COMMON = 5
_FEW = 7
_FLAGS = ("--json", "--help")


class Command(TyperCommand):
    """A command whose help page leads with the options that people use, the first of its signature,
    and asks the declarations of fields what its options mean.

    Only the page of this command does so: the schema takes a tenth of a second to import.
    """

    old_options: Mapping[str, str] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for place, word in enumerate(args):
            name, equals, value = word.partition("=")
            if name in self.old_options:
                today = self.old_options[name]
                sys.stderr.write(f"`{name}` is now `{today}`; the old name goes with the next "
                                 "release\n")
                args[place] = f"{today}{equals}{value}"
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        parameters: list[Any] = self.get_params(ctx)
        options = [one for one in parameters if one.param_type_name == "option"]
        common = [option for option in options if not {*_FLAGS} & {*option.opts}][:_NUM_COMMON]
        for one in parameters:
            if one.help:
                one.help = _FIELD.sub(partial(_described, one), one.help)
        for option in options:
            if len(options) > _FEW:
                option.rich_help_panel = "Common options" if option in common else "Other options"
        if self.help:  # a paragraph is one line, for the terminal to break
            self.help = re.sub(r"(?<!\n)\n(?!\n)", " ", self.help)
        try:
            super().format_help(ctx, formatter)
        except SystemExit:  # Rich ends the process when the reader of a pipe has gone
            raise ReaderGoneError from None


def _described(parameter: Any, field: re.Match[str]) -> str:
    from penstock.fleet.declared import field_help

    usual = {"=": "the file's", "~": ""}.get(field[1])
    own = parameter.default  # of the command, which may differ from the field's
    stated = isinstance(own, str | int | float) and not isinstance(own, bool)
    return field_help(field[2], default=own if stated and field[1] != "=" else usual)


class App(typer.Typer):
    """A command's application: no completion, and ``Command`` for each command."""

    def __init__(self) -> None:
        super().__init__(add_completion=False)

    def command(self, name: str | None = None, *, old_options: Mapping[str, str] | None = None,
                **settings: Any) -> Callable[..., Any]:
        """As Typer's; ``old_options`` maps earlier names of options to today's."""
        settings["cls"] = Command if old_options is None else type(
            "Renamed", (Command,), {"old_options": old_options})
        return super().command(name, **settings)
