"""The entry point: calls the command and turns whatever goes wrong into one line."""

import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.exits import BAD_INPUT, BUG, INTERRUPTED, OK, ReaderGoneError
from penstock.cli.lazy import FirstPage
from penstock.core.errors import InputError, nearest, one_of

# Typer has a name of its own for the subclass alone, and keeps the base now here, now in click.
_UsageError: Any = typer.BadParameter.__bases__[0]

_app = typer.Typer(name="penstock", cls=FirstPage)


def _print_version(wanted: bool) -> None:
    if wanted:
        from penstock import __version__

        sys.stdout.write(f"penstock {__version__}\n")
        raise typer.Exit


@_app.callback(epilog="Example: penstock plan --model llama-3.3-70b --gpu h100-80gb:4 --rate 5\n"
                      "`penstock COMMAND --help` shows a command's options, --version the version.")
def _penstock(version: Annotated[bool, typer.Option(
        "--version", callback=_print_version, is_eager=True,
        help="Print the version and leave.")] = False) -> None:
    """The control plane for LLM inference: size, simulate and compare fleets.

    Exit status: 0 done, 1 a target was missed, 2 bad input, 70 a bug in Penstock.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status. Prints nothing but one line when it fails."""
    _ready_streams()
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        status = typer.main.get_command(_app).main(arguments, "penstock", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGoneError):
        # The reader of our output has gone; keep the interpreter from flushing into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if os.environ.get("PENSTOCK_DEBUG"):
            traceback.print_exc()
        return _fail(*_explained(error))
    return status if isinstance(status, int) else OK


def _ready_streams() -> None:
    """Stand in for streams that the caller closed, and print "?" for what a terminal lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _fail(message: str, status: int) -> int:
    # One line, and nothing of the input that could steer the terminal.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    with suppress(OSError):  # the status tells it where stderr takes nothing
        sys.stderr.write(f"error: {line}\n")
    return status


def _explained(error: Exception) -> tuple[str, int]:
    """Return the message for the user, and the exit status."""
    if isinstance(error, InputError):
        return str(error), BAD_INPUT
    if isinstance(error, _UsageError):
        return _usage(error), BAD_INPUT
    place = _of_the_place(error)
    if place is not None:
        return place, BAD_INPUT
    hint = "" if os.environ.get("PENSTOCK_DEBUG") else \
        "; PENSTOCK_DEBUG=1 shows where it happened"
    return (f"this is a bug in Penstock ({type(error).__name__}: {str(error)[:200]}); "
            f"please report it{hint}"), BUG


def _of_the_place(error: Exception) -> str | None:
    """Return the message of an error that files, memory or lacking packages cause, if it is one."""
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("penstock"):
        return (f"the package {error.name} is not installed; in the folder of Penstock's checkout, "
                "this installs all that is needed: pip install .")
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}"
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{error.object[:200]}: a name that is not UTF-8; expected UTF-8"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error or 'the input is too large'})"
    return None


def _usage(error: Any) -> str:
    """A misuse of the command line, with the nearest option where one was misspelt."""
    command = error.ctx.command_path if error.ctx else "penstock"
    name = getattr(error, "option_name", None)
    if name and str(error.message).startswith("No such option"):
        return f"{command} has no option {name!r}{_nearest_option(name, error.ctx.command)}"
    if re.fullmatch(r"No such command .*['\"]\.", str(error.message)):
        wanted = str(error.message).removeprefix("No such command ")[1:-2]
        return f"{command}: no such command {wanted!r}{nearest(wanted, error.ctx.command.commands)}"
    message = str(error.format_message()).rstrip(".")
    more = "" if message.endswith("?") else f"; see {command} --help"
    return f"{command}: {message[:1].lower()}{message[1:]}{more}"


def _nearest_option(name: str, command: Any) -> str:
    options = {option.lstrip("-"): option for parameter in command.params
               for option in parameter.opts if option.startswith("--")} | {"help": "--help"}
    hint = nearest(name.lstrip("-"), options)
    for bare, option in options.items():
        hint = hint.replace(f"{bare!r}?", f"{option!r}?")
    if "did you mean" in hint:
        return hint
    if hasattr(command, "commands"):
        return "; options of a command follow its name"
    return one_of(options.values())
