"""Files of commands: what is written is whole, or not there at all."""

from collections.abc import Callable
from pathlib import Path

from penstock.core.errors import InputError


def write_whole(path: Path, write: Callable[[Path], None], endings: tuple[str, ...] = ()) -> None:
    """Let ``write`` fill a file that gets the name ``path`` only once it is complete.

    Raises InputError for a path that cannot be written or has none of ``endings``.
    """
    check_name(path, endings)
    # Writers go by the ending, so the mark of an unfinished file stands in front.
    partial = path.with_name(f".partial-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    except InputError as error:
        raise InputError(str(error).replace(str(partial), str(path))) from error
    finally:
        _remove(partial)


def check_name(path: Path, endings: tuple[str, ...]) -> None:
    """Raise InputError for the path of a folder, and for one with none of ``endings``. Commands
    check names before long work, too."""
    if endings and not path.name.endswith(endings):
        raise InputError(f"{path}: expected a name that ends in {' or '.join(endings)}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; expected a file name")


def library(self_contained: bool) -> str | None:
    """The folder of a page's plot library, seen from the page; None embeds the library."""
    return None if self_contained else "."


def read_json(path: Path) -> object:
    """The document in a small file that somebody wrote by hand. Raises InputError."""
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error})") from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder could not be made
        return
