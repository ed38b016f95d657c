"""The one error a user can cause, and how it helps them mend their input."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from a person: a file, a field, a flag or a name.

    The message is one line that says where (file, line or field), what was found and what was
    expected. The command line prints it and exits with status 2; no traceback is shown.
    """


def nearest(name: str, valid: Iterable[str]) -> str:
    """A hint such as ``; did you mean 'x'?`` or the list of valid names when none is close."""
    names = sorted(valid)
    close = get_close_matches(name.lower(), [n.lower() for n in names], n=1, cutoff=0.5)
    for candidate in names:
        if close and candidate.lower() == close[0]:
            return f"; did you mean {candidate!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; expected one of: {shown}" if names else ""
