"""The files of a run. Each appears under its name only once it is complete."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.metrics.request_file import temporary_path

LIBRARY = "plotly.min.js"  # plots need it, in pages that do not embed it


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write JSON with the mapping's own key order, indented; equal summaries give equal bytes."""
    import orjson

    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    write_bytes(path, orjson.dumps(summary, option=options))


def write_text(path: Path, text: str) -> None:
    """Write a text file, UTF-8, all or nothing."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, *parts: bytes) -> None:
    """Write a file from its parts, all or nothing. Raises OSError that names the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_path(path)
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
        partial.replace(path)
    except OSError as error:  # of a full disk, it names no file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, expected: str = "") -> Any:
    """Return the document of a JSON file. ``expected`` ends the error of a file that cannot be
    read. Raises InputError."""
    import orjson

    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}){expected}") from error
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
