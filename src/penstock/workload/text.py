"""Text files, gzipped or not, read in blocks of rows."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, cast

import orjson

from penstock.core.errors import InputError
from penstock.workload.columns import RowFaultError

BLOCK_ROWS = 1 << 15
_GZIP_MAGIC = b"\x1f\x8b"
_FIRST_LINE_CHARS = 1 << 16


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file's text, unzipped if need be (by content, not by name).

    Raises InputError for a file that is missing, cut short or not text.
    """
    try:
        with path.open("rb") as raw, _unzipped(raw) as plain:
            yield io.TextIOWrapper(plain, encoding="utf-8-sig", newline="")
    except EOFError as error:
        raise InputError(f"{path}: the gzip file is cut short") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is damaged ({error})") from error
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.object[error.start]:#04x})"
                         ) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def json_rows(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield the number, from 0, the text and the value of every line of JSON that is not blank.

    Raises InputError as ``open_text`` does, and RowFaultError for a line that is not JSON.
    """
    with open_text(path) as lines:
        for number, line in enumerate(line for line in lines if not line.isspace()):
            try:
                yield number, line, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise RowFaultError(number, f"not a JSON object ({error.msg})") from None


def _unzipped(raw: BinaryIO) -> IO[bytes]:
    magic = raw.read(2)
    raw.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if magic == _GZIP_MAGIC else raw


def first_line(path: Path) -> str:
    """The file's first line that is not blank.

    Raises InputError for an empty file and for one that is not text.
    """
    with open_text(path) as lines:
        while line := lines.readline(_FIRST_LINE_CHARS):
            if "\0" in line:
                raise InputError(f"{path}: not a text file (it holds null bytes)")
            if line.strip():
                return line.strip()
    raise InputError(f"{path}: the file is empty")


def csv_blocks(lines: TextIO) -> Iterator[list[list[str]]]:
    """Rows of a CSV file in blocks, blank lines left out; the header is the first row."""
    reader = csv.reader(lines)
    while rows := list(islice(reader, BLOCK_ROWS)):
        yield [row for row in rows if row] if [] in rows else rows


def csv_line_number(path: Path, row: int) -> int:
    """Line of the file on which data row ``row`` ends, counting from 1."""
    with open_text(path) as lines:
        reader = csv.reader(lines)
        filled = (reader.line_num for fields in reader if fields)
        return next(islice(filled, row + 1, None))


def jsonl_line_number(path: Path, row: int) -> int:
    """Line of the file that holds JSON row ``row``, counting from 1."""
    with open_text(path) as lines:
        filled = (number for number, line in enumerate(lines, 1) if line.strip())
        return next(islice(filled, row, None))


def check_width(rows: list[list[str]], width: int, first_row: int) -> None:
    """Raises RowFaultError at the first row that has not ``width`` fields."""
    if set(map(len, rows)) <= {width}:
        return
    for place, fields in enumerate(rows):
        if len(fields) != width:
            raise RowFaultError(first_row + place, f"{len(fields)} fields; expected {width}")
