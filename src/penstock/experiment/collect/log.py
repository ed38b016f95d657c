"""Log of collected answers, written line by line, so that a killed run resumes.

``collected.jsonl`` has one JSON object per answer, written and synced before the next is counted as
done; a line that was cut off by a kill is dropped. ``collect.json`` says what the run is, so that
another one does not mix into its folder.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from penstock.core.errors import InputError

_LINES, _HEAD = "collected.jsonl", "collect.json"
Key = tuple[int, str]


class CollectLog:
    """The rows of one folder, by prompt and model."""

    def __init__(self, folder: Path, rows: dict[Key, dict[str, Any]], length: int) -> None:
        """``length`` is where the last whole line ends; what is beyond is cut."""
        self.rows = rows
        self._file = (folder / _LINES).open("ab")
        self._file.truncate(length)
        os.fsync(self._file.fileno())

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row for good. A key that is there already is refused."""
        key = (row["prompt_id"], row["model"])
        if key in self.rows:
            raise ValueError(f"{key} is there already")
        self._file.write(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.rows[key] = row

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


def open_log(folder: Path, head: Mapping[str, Any]) -> CollectLog:
    """The log of a folder: a new one, or the one of the same run. Raises InputError for a folder of
    another run, with what differs."""
    path = folder / _HEAD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_same(orjson.loads(path.read_bytes()), head, folder)
        elif any(folder.iterdir()):
            raise InputError(f"--out {folder}: holds files of something else; expected a new "
                             "folder, or that of a run to go on with")
        else:
            partial = folder / f".partial-{_HEAD}"
            partial.write_bytes(orjson.dumps(dict(head), option=orjson.OPT_INDENT_2))
            partial.replace(path)
        lines = folder / _LINES
        content = lines.read_bytes() if lines.exists() else b""
    except orjson.JSONDecodeError:
        raise InputError(f"{path}: is not JSON; expected the run that this folder is of") from None
    except OSError as error:
        raise InputError(f"--out {folder}: {error.strerror or error}") from error
    whole = content[:content.rfind(b"\n") + 1]
    rows: dict[Key, dict[str, Any]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = orjson.loads(line)
            rows[row["prompt_id"], row["model"]] = row
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise InputError(f"{lines}: line {number} is damaged") from None
    return CollectLog(folder, rows, len(whole))


def _check_same(found: Any, head: Mapping[str, Any], folder: Path) -> None:
    was = found if isinstance(found, dict) else {}
    # As JSON, because tuples come back as lists.
    now = orjson.loads(orjson.dumps(dict(head)))
    for name in now:
        if was.get(name) != now[name]:
            raise InputError(f"--out {folder}: holds a run with {name} "
                             f"{str(was.get(name))[:60]!r}; this one has {str(now[name])[:60]!r}; "
                             "expected a new folder")
