"""A log of decisions with their outcomes, one JSON line each, for the evaluation of other
policies."""

import asyncio
import os
import queue
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from penstock.core.errors import InputError

MOST_WAITING = 10_000
_PATIENCE_S = 2.0
_Entry = dict[str, Any] | Future[None] | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A file of more than ``most_bytes`` becomes FILE.1, FILE.1 becomes FILE.2 and so on; the last
    ``num_kept`` of them are kept."""

    most_bytes: int = 256 * 2**20
    num_kept: int = 7


USUAL_ROTATION = Rotation()


class DecisionLog:
    """Appends decisions to a file in a thread of its own. The log has no text of prompts or
    answers, and only the file's owner may read it.

    When the disk is full or too slow, decisions are dropped and counted: a log must not stop the
    gateway. ``note`` is called once per failure. Raises InputError for a file that cannot be
    written.
    """

    def __init__(self, path: Path, note: Callable[[str], None],
                 rotation: Rotation = USUAL_ROTATION) -> None:
        self._path = path
        self._note = note
        self._rotation = rotation
        self._waiting: queue.Queue[_Entry] = queue.Queue(MOST_WAITING)
        self.num_dropped = 0
        try:
            os.close(_opened(path))
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror}") from error
        self._thread = threading.Thread(target=self._write, name="decisions", daemon=True)
        self._thread.start()

    def add(self, document: dict[str, Any]) -> None:
        """Append a finished decision."""
        try:
            self._waiting.put_nowait(document)
        except queue.Full:
            self.num_dropped += 1

    async def written(self) -> None:
        """Wait until all decisions so far are in the file, where a kill of this process cannot
        reach them; no longer than two seconds."""
        done: Future[None] = Future()
        with suppress(queue.Full, TimeoutError):
            self._waiting.put_nowait(done)
            await asyncio.wait_for(asyncio.wrap_future(done), _PATIENCE_S)

    def close(self) -> None:
        """Write the remaining decisions and stop."""
        self._waiting.put(None)
        self._thread.join()

    # -- in the thread --------------------------------------------------------------------------

    def _write(self) -> None:
        in_trouble = at_end = False
        while not at_end:
            entries, at_end = self._gathered()
            documents = [one for one in entries if isinstance(one, dict)]
            try:
                self._append(documents)
                in_trouble = False
            except OSError as error:
                self.num_dropped += len(documents)
                if not in_trouble:
                    self._note(f"{self._path}: decisions are lost: {error.strerror}")
                in_trouble = True
            for one in entries:
                if isinstance(one, Future) and one.set_running_or_notify_cancel():
                    one.set_result(None)

    def _append(self, documents: list[dict[str, Any]]) -> None:
        if not documents:
            return
        lines = b"".join(orjson.dumps(one, default=list, option=orjson.OPT_APPEND_NEWLINE)
                         for one in documents)
        file = _opened(self._path)
        try:
            size = os.fstat(file).st_size
            if size and size + len(lines) > self._rotation.most_bytes:
                os.close(file)
                self._rotate()
                file, size = _opened(self._path), 0
            _write_all(file, lines, size)
        finally:
            os.close(file)

    def _rotate(self) -> None:
        for number in range(self._rotation.num_kept - 1, 0, -1):
            with suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _gathered(self) -> tuple[list[_Entry], bool]:
        entries: list[_Entry] = []
        one = self._waiting.get()
        while one is not None:
            entries.append(one)
            if self._waiting.empty():
                return entries, False
            one = self._waiting.get()
        return entries, True


def _opened(path: Path) -> int:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
        with suppress(PermissionError):  # it belongs to another user, who decides
            os.fchmod(file, 0o600)
    return file


def _write_all(file: int, lines: bytes, size: int) -> None:
    """Append lines to a file of ``size`` bytes, all of them or none. Raises OSError."""
    num_written = 0
    try:
        while num_written < len(lines):
            num_written += os.write(file, lines[num_written:])
    except OSError:
        if num_written and os.fstat(file).st_size == size + num_written:
            os.ftruncate(file, size)
        raise
