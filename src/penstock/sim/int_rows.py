"""Rows of whole numbers that grow at the end."""

from collections.abc import Callable
from struct import Struct
from typing import Final

import numpy as np

from penstock.metrics.definitions import IntColumn

_BLOCK_ROWS: Final = 1 << 7


def packed(numbers: list[int]) -> IntColumn:
    """Return whole numbers in 8 bytes each. ``np.array`` would look for the type of each first."""
    return np.fromiter(numbers, np.int64, len(numbers))


class IntRows:
    """Rows of ``columns`` whole numbers each, which take 8 bytes.

    To append a row, call ``pack`` with ``block``, ``end`` and the numbers of the row, and then
    ``grown``.
    """

    __slots__ = ("_blocks", "_columns", "_row_bytes", "block", "end", "pack")

    def __init__(self, columns: int) -> None:
        row = Struct(f"{columns}n")  # read faster than q, and as long
        self.pack: Callable[..., None] = row.pack_into
        self._columns = columns
        self._row_bytes = row.size
        self._blocks: list[IntColumn] = []
        self.block = bytearray(_BLOCK_ROWS * row.size)
        self.end = 0  # of the rows in ``block``, in bytes

    def grown(self) -> None:
        """Take note that a row was packed at ``end``."""
        self.end += self._row_bytes
        if self.end == len(self.block):
            self._close()

    def _close(self) -> None:
        """Begin a new block."""
        self._blocks.append(np.frombuffer(self.block[:self.end], np.intp))
        self.end = 0

    def table(self) -> IntColumn:
        """Return all rows, as an array of shape (rows, columns)."""
        if self.end or len(self._blocks) != 1:
            self._close()
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0].reshape(-1, self._columns)

    def drop_first(self, num_rows: int) -> None:
        """Forget the first rows."""
        self._blocks = [self.table()[num_rows:].ravel().copy()]
