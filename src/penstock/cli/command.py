"""Commands as a user meets them: help pages, old names of options, options that state fields."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from textwrap import wrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


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
_MOST_NAME = 30   # width of names beside their texts
_LEAST_TEXT = 40
_MOST_WIDTH = 120


class Command(TyperCommand):
    """A command whose help page leads with the options that people use, the first of its signature,
    and asks the declarations of fields what its options mean.

    Only the page of this command does so: the schema takes a tenth of a second to import.
    """

    old_options: Mapping[str, str] = {}
    words: Mapping[str, str] = {}
    """The command's own help of an option that several commands share."""

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
        for one in parameters:
            one.help = self.words.get(one.opts[0], one.help)
            if one.help:
                one.help = _FIELD.sub(partial(_described, one), one.help)
        if self.help:  # a paragraph is one line, for the terminal to break
            self.help = re.sub(r"(?<!\n)\n(?!\n)", " ", self.help)
        super().format_help(ctx, formatter)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        parameters: list[Any] = self.get_params(ctx)
        options = [one for one in parameters if not one.hidden and one.param_type_name == "option"]
        common = [option for option in options if not {*_FLAGS} & {*option.opts}][:_NUM_COMMON]
        sections = {"Arguments": [one for one in parameters if one.param_type_name == "argument"]}
        if len(options) > _FEW:
            sections["Common options"] = common
            sections["Other options"] = [one for one in options if one not in common]
        else:
            sections["Options"] = options
        for name, members in sections.items():
            if members:
                with formatter.section(name):
                    write_rows(formatter, [(_spelt(one), _explained(one)) for one in members])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(formatter, self.epilog)


def write_examples(formatter: Any, epilog: str | None) -> None:
    """Write a page's examples, a paragraph each. No word is broken."""
    for example in (epilog or "").split("\n\n"):
        lines = wrap(example, formatter.width - 2, initial_indent="  ", subsequent_indent="    ",
                     break_long_words=False, break_on_hyphens=False)
        formatter.write("".join(f"{line}\n" for line in ("", *lines)))


def write_rows(formatter: Any, rows: Sequence[tuple[str, str]]) -> None:
    """Write names, each with its text beside it; below it, where the name leaves too little room.
    No word is broken."""
    longest = max(len(name) for name, _ in rows)
    first = formatter.current_indent + min(longest, _MOST_NAME) + 2
    for name, text in rows:
        beside = f"{' ' * formatter.current_indent}{name}".ljust(first)
        lines = wrap(text, max(formatter.width - first, _LEAST_TEXT), break_long_words=False,
                     break_on_hyphens=False)
        if len(beside) > first or not lines:
            formatter.write(f"{beside.rstrip()}\n")
        else:
            formatter.write(f"{beside}{lines.pop(0)}\n")
        formatter.write("".join(f"{' ' * first}{line}\n" for line in lines))


def _spelt(parameter: Any) -> str:
    """A parameter as it is written: its names, and what follows them."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.human_readable_name)
    names = " / ".join([", ".join(parameter.opts), *parameter.secondary_opts])
    return names if parameter.is_flag else f"{names} {parameter.metavar}"


def _explained(parameter: Any) -> str:
    """A parameter's help with its range and default, as fields of the fleet file state theirs."""
    from penstock.fleet.declared import noted

    limits = [(name, limit) for name, limit in (("ge", getattr(parameter, "min", None)),
                                                ("le", getattr(parameter, "max", None)))
              if limit is not None]
    default = parameter.default if parameter.show_default else None
    notes = [f"or {parameter.envvar}"] if isinstance(parameter.envvar, str) else []
    if parameter.required and parameter.param_type_name == "option":
        notes.append("required")
    return noted(parameter.help or "", limits, default, notes)


def _described(parameter: Any, field: re.Match[str]) -> str:
    from penstock.fleet.declared import field_help

    usual = {"=": "the file's", "~": ""}.get(field[1])
    own = parameter.default  # of the command, which may differ from the field's
    stated = isinstance(own, str | int | float) and not isinstance(own, bool)
    return field_help(field[2], default=own if stated and field[1] != "=" else usual)


class _Group(TyperGroup):
    """Commands of one application, each with the whole first line of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands: list[Any] = [self.get_command(ctx, name) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            write_rows(formatter, [
                (str(one.name), " ".join((one.help or "").partition("\n\n")[0].split()))
                for one in commands if not one.hidden])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(formatter, self.epilog)


class App(typer.Typer):
    """A command's application: no completion, and ``Command`` for each command."""

    def __init__(self) -> None:
        super().__init__(add_completion=False, rich_markup_mode=None, cls=_Group,
                         context_settings={"max_content_width": _MOST_WIDTH})

    def command(self, name: str | None = None, *, old_options: Mapping[str, str] | None = None,
                words: Mapping[str, str] | None = None, **settings: Any) -> Callable[..., Any]:
        """As Typer's; ``old_options`` maps earlier names of options to today's, ``words`` maps
        shared options to this command's help of them."""
        settings.setdefault("context_settings", {"max_content_width": _MOST_WIDTH})
        settings["cls"] = type("Own", (Command,), {"old_options": old_options or {},
                                                   "words": words or {}})
        return super().command(name, **settings)
