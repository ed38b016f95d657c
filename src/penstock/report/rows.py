"""Rows of figures as a CSV or JSON file that is whole at every moment."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import InputError
from penstock.report.files import write_bytes

ENDINGS = (".csv", ".json")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows anew, by the path's ending. Columns are those of any row, in order of first
    appearance; None is an empty field in CSV."""
    import orjson

    if path.suffix == ".json":
        write_bytes(path, orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that ``write_rows`` wrote; values of a CSV stay text.

    Raises InputError when the file is not of that form.
    """
    import orjson

    try:
        if path.suffix == ".json":
            rows = orjson.loads(path.read_bytes())
        else:
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""),
                                       strict=True))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (csv.Error, ValueError) as error:
        raise InputError(f"{path}: not a table of rows ({error})") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: not a table of rows; expected a list of mappings")
    return rows
