"""Rows of whole numbers that grow at the end."""

from struct import pack
from typing import Final

import numpy as np

from penstock.metrics.definitions import IntColumn

_BLOCK_ROWS: Final = 1 << 7


def packed(numbers: list[int]) -> IntColumn:
    """Return whole numbers in 8 bytes each, read-only. ``np.array`` would look for the type of each
    first, and ``np.fromiter`` makes an array of each."""
    return np.frombuffer(pack(f"{len(numbers)}n", *numbers), np.intp)


class IntRows:
    """Rows of ``columns`` whole numbers each, which take 8 bytes."""

    __slots__ = ("_blocks", "_columns", "_latest", "_most")

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._most = columns * _BLOCK_ROWS
        self._blocks: list[IntColumn] = []
        self._latest: list[int] = []  # of rows that are in no block yet

    def add(self, row: tuple[int, ...]) -> None:
        """Append a row."""
        self._latest.extend(row)
        if len(self._latest) == self._most:
            self._close()

    def _close(self) -> None:
        """Begin a new block."""
        self._blocks.append(packed(self._latest))
        self._latest = []

    def table(self) -> IntColumn:
        """Return all rows, as an array of shape (rows, columns)."""
        if self._latest or len(self._blocks) != 1:
            self._close()
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0].reshape(-1, self._columns)

    def drop_first(self, num_rows: int) -> None:
        """Forget the first rows."""
        self._blocks = [self.table()[num_rows:].ravel().copy()]
