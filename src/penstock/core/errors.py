"""The error for invalid input, and hints for correcting the input."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from difflib import SequenceMatcher, get_close_matches
from typing import Any


class InputError(ValueError):
    """Bad input from a person: a file, a field, a flag or a name.

    The message is one line that says where (file, line or field), what was found and what was
    expected. The command line prints it and exits with status 2; no traceback is shown.
    """


def missing_extra(what: str, extra: str, error: Exception) -> InputError:
    """Return the error for a feature whose extra is not installed."""
    return InputError(f"{what} needs the extra {extra!r} ({str(error)[:120]}); in the folder of "
                      f"Penstock's checkout: pip install '.[{extra}]'")


@contextmanager
def fields_called(names: Mapping[str, str]) -> Iterator[None]:
    """Rename the field at the beginning of an InputError to the caller's name for it."""
    try:
        yield
    except InputError as error:
        field, colon, rest = str(error).partition(": ")
        if not colon or field not in names:
            raise
        raise InputError(f"{names[field]}: {rest}") from error


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value in words."""
    names: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "true/false",
                              int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def quote(value: Any) -> str:
    """Quote a JSON value for an error: short values themselves, others by their kind."""
    if isinstance(value, Mapping | list):
        return kind_of(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'x'?``, or the list of valid names when none is
    close."""
    names = sorted(valid)
    likely = _likeliest(name.lower(), names)
    if likely is not None:
        return f"; did you mean {likely!r}?"
    return one_of(names)


def suggested(message: str) -> str | None:
    """Return the name that ``nearest`` suggested in a message, None where it suggested none."""
    found = re.search(r"; did you mean '([^']+)'\?", message)
    return found and found[1]


def one_of(names: Iterable[str]) -> str:
    """Return the hint that lists up to sixteen valid names."""
    known = sorted(names)
    listed = ", ".join(known[:16]) + (", ..." if len(known) > 16 else "")
    return f"; expected one of: {listed}" if known else ""


def _likeliest(name: str, names: list[str]) -> str | None:
    """Return a name that begins with or contains the text, else one with a small difference, else
    None."""
    if not name:
        return None
    begun = [n for n in names if n.lower().startswith(name)]
    holding = [n for n in names if len(name) > 2 and name in n.lower()]
    for found in (begun if len(begun) == 1 or len(name) > 1 else [], holding):
        if found:
            return max(found, key=lambda n: SequenceMatcher(None, name, n.lower()).ratio())
    # Below 0.6 two words share only some letters, such as 'nosuch' and 'schema', or a beginning.
    for candidate in get_close_matches(name, [n.lower() for n in names], n=3, cutoff=0.5):
        alike = SequenceMatcher(None, name, candidate).ratio() >= 0.6
        if alike or name[:3] == candidate[:3]:
            return next(n for n in names if n.lower() == candidate)
    return None
