"""The files of a reproduction: figures as JSON and its extra tables as CSV."""

import csv
import io
from pathlib import Path

import orjson

from penstock.core.errors import InputError
from penstock.published.figures import Reproduction
from penstock.report.files import write_text


def check_folder(folder: Path) -> None:
    """Raises InputError, before hours of work, for what cannot be the folder of the files."""
    if any(path.exists() and not path.is_dir() for path in (folder, *folder.parents)):
        raise InputError(f"--out {folder}: is a file, or in one; expected a folder")


def write_reproduction(folder: Path, found: Reproduction) -> None:
    """Write ``reproduction.json`` and one CSV per extra table, each all or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    document = orjson.dumps(found.as_dict(), option=orjson.OPT_INDENT_2).decode()
    write_text(folder / "reproduction.json", document + "\n")
    for name, rows in found.rows.items():
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(folder / name, text.getvalue())
