"""Commands whose options take their help and their checks from the fleet file's fields."""

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand


class FieldText:
    """Converts an option's text as the fleet file's field at ``path`` would be read.

    Typer names a parameter's type by ``__name__``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.__name__ = path.rpartition(".")[2].upper()

    def __call__(self, text: str) -> Any:
        from penstock.core.errors import InputError
        from penstock.fleet.declared import field_value

        try:
            return field_value(self.path, text)
        except InputError as error:
            raise typer.BadParameter(str(error)) from None


def field_option(name: str, path: str, metavar: str, more: str = "") -> Any:
    """An option that states the field at ``path``; its help is the field's own, and ``more``."""
    return typer.Option(name, metavar=metavar, help=f"{{{path}}} {more}".strip(),
                        show_default=False, parser=FieldText(path))


_FIELD = re.compile(r"\{([a-z0-9_.]+)\}")


class Command(TyperCommand):
    """A command whose help page asks the fleet file's schema what its fields mean.

    Only the page of this command does so: the schema takes a tenth of a second to import.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        parameter: Any
        for parameter in self.params:
            text = getattr(parameter, "help", None)
            if text and _FIELD.search(text):
                parameter.help = _FIELD.sub(_described, text)
        super().format_help(ctx, formatter)


def _described(field: re.Match[str]) -> str:
    from penstock.fleet.declared import field_help

    return field_help(field[1])


class App(typer.Typer):
    """A command's application: no completion, and ``Command`` for each command."""

    def __init__(self) -> None:
        super().__init__(add_completion=False)

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        settings.setdefault("cls", Command)
        return super().command(name, **settings)
