"""The memory of prompts: their vectors and what their answers were."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.predict.embed.protocol import Vectors
from penstock.predict.prompts.rows import Values


class PromptMemory:
    """At most ``capacity`` rows, the oldest leave first.

    A row is a unit vector and, by column, a number or NaN: an answer may be measured and not
    judged, and may be of one model only.
    """

    def __init__(self, num_dimensions: int, num_columns: int, capacity: int) -> None:
        self._capacity = capacity
        self._vectors = np.zeros((0, num_dimensions), np.float32)
        self._values = np.zeros((0, num_columns))
        self._size = 0
        self._next = 0
        self._sums = np.zeros(num_columns)
        self._counts = np.zeros(num_columns)
        self.num_added = 0

    def __len__(self) -> int:
        return self._size

    @property
    def vectors(self) -> Vectors:
        """The vectors held, in the order of their places."""
        return self._vectors[:self._size]

    @property
    def values(self) -> Values:
        """The numbers held: (rows, columns)."""
        return self._values[:self._size]

    def in_order(self) -> tuple[Vectors, Values]:
        """Vectors and numbers, the oldest first."""
        if self._size < self._capacity:
            return self.vectors, self.values
        return np.roll(self.vectors, -self._next, axis=0), np.roll(self.values, -self._next, axis=0)

    def add(self, vectors: Vectors, values: Values) -> None:
        """Add rows, each in place of the oldest where the memory is full."""
        for vector, row in zip(vectors, values, strict=True):
            place = self._next
            if self._size < self._capacity:
                self._grow()
                self._size += 1
            else:
                self._count(self._values[place], -1.0)
            self._vectors[place], self._values[place] = vector, row
            self._count(row, 1.0)
            self._next = (place + 1) % self._capacity
            self.num_added += 1

    def _grow(self) -> None:
        if self._size < len(self._vectors):
            return
        size = min(max(64, 2 * self._size), self._capacity)
        self._vectors = _longer(self._vectors, size)
        self._values = _longer(self._values, size)

    def _count(self, row: Values, sign: float) -> None:
        known = ~np.isnan(row)
        self._sums[known] += sign * row[known]
        self._counts[known] += sign

    def mean(self, column: int, prior: float, prior_rows: float) -> float:
        """Mean of a column over the rows that have it, with a prior worth ``prior_rows`` rows."""
        return float((self._sums[column] + prior_rows * prior)
                     / (self._counts[column] + prior_rows))

    def known(self, column: int) -> Values:
        """The numbers of a column, without the rows that lack it."""
        held = self.values[:, column]
        found: Values = held[~np.isnan(held)]
        return found

    def cosines(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """How alike the rows are to a unit vector, -1 to 1."""
        found: NDArray[np.float32] = self.vectors @ vector
        return found


def _longer(held: NDArray[Any], size: int) -> NDArray[Any]:
    wider = np.zeros((size, held.shape[1]), held.dtype)
    wider[:len(held)] = held
    return wider
