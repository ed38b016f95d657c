"""Rows of whole numbers that grow at the end."""

from typing import Final

import numpy as np

from penstock.metrics.definitions import IntColumn

_MOST_BOXED: Final = 1 << 12


def packed(numbers: list[int]) -> IntColumn:
    """Return whole numbers in 8 bytes each. ``np.array`` would look for the type of each first."""
    return np.fromiter(numbers, np.int64, len(numbers))


class IntRows:
    """Rows of ``columns`` whole numbers each.

    Native code appends to a list in a tenth of the time that an array takes. So callers append the
    numbers of a row to ``tail`` and then call ``grown``, which moves many of them at a time to
    arrays of 8 bytes per number.
    """

    __slots__ = ("_blocks", "_columns", "tail")

    def __init__(self, columns: int) -> None:
        self.tail: list[int] = []
        self._columns = columns
        self._blocks: list[IntColumn] = []

    def grown(self) -> None:
        """Take note that a row was appended to ``tail``."""
        if len(self.tail) >= _MOST_BOXED:
            self._pack()

    def _pack(self) -> None:
        self._blocks.append(packed(self.tail))
        self.tail.clear()

    def table(self) -> IntColumn:
        """Return all rows, as an array of shape (rows, columns)."""
        self._pack()
        table = np.concatenate(self._blocks).reshape(-1, self._columns)
        self._blocks = [table.ravel()]
        return table

    def drop_first(self, num_rows: int) -> None:
        """Forget the first rows."""
        self._blocks = [self.table()[num_rows:].ravel().copy()]
