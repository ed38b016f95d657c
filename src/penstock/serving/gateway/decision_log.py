"""A log of decisions with their outcomes, one JSON line each, for the evaluation of other
policies."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from penstock.core.errors import InputError

MOST_WAITING = 10_000


class DecisionLog:
    """Appends decisions to a file in a thread of its own. The log has no text of prompts or
    answers.

    When the disk is full or too slow, decisions are dropped and counted: a log must not stop the
    gateway. ``note`` is called once per failure.
    """

    def __init__(self, path: Path, note: Callable[[str], None]) -> None:
        self._path = path
        self._note = note
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(MOST_WAITING)
        self.num_dropped = 0
        try:
            path.open("ab").close()
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

    def close(self) -> None:
        """Write the remaining decisions and stop."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        in_trouble = False
        while True:
            batch, at_end = self._batch()
            try:
                with self._path.open("ab") as file:
                    file.write(b"".join(orjson.dumps(
                        one, default=list, option=orjson.OPT_APPEND_NEWLINE) for one in batch))
                in_trouble = False
            except OSError as error:
                self.num_dropped += len(batch)
                if not in_trouble:
                    self._note(f"{self._path}: decisions are lost: {error.strerror}")
                in_trouble = True
            if at_end:
                return

    def _batch(self) -> tuple[list[dict[str, Any]], bool]:
        batch: list[dict[str, Any]] = []
        one = self._waiting.get()
        while one is not None:
            batch.append(one)
            if self._waiting.empty():
                return batch, False
            one = self._waiting.get()
        return batch, True
