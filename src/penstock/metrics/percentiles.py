"""Percentiles by nearest rank, also of more values than memory holds."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from math import ceil
from typing import Final, TypeVar

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.run_summary import Percentiles

PERCENTILES: Final = (50, 90, 95, 99)
_LEADING_BITS: Final = 20

Key = TypeVar("Key", bound=Hashable)


def percentiles(values: FloatColumn) -> Percentiles:
    """Return p50, p90, p95 and p99 by nearest rank over the values that exist."""
    known = np.sort(values[~np.isnan(values)])
    return _named(float(known[rank]) for rank in _ranks(len(known)))


def percentiles_by_key(blocks: Callable[[], Iterator[Mapping[Key, FloatColumn]]]
                       ) -> dict[Key, Percentiles]:
    """Return the percentiles of the values of each key over all blocks.

    Several blocks are asked for twice, so that their values need not be held.
    """
    passing = blocks()
    first = next(passing)
    second = next(passing, None)
    if second is None:
        return {key: percentiles(values) for key, values in first.items()}
    found = {key: _Search() for key in first}
    for block in blocks():
        for key, values in block.items():
            found[key].count(values)
    for block in blocks():
        for key, values in block.items():
            found[key].keep(values)
    return {key: search.percentiles() for key, search in found.items()}


def _ranks(num: int) -> list[int]:
    """Return the places of the percentiles among sorted values, none where there is no value."""
    return [ceil(q * num / 100) - 1 for q in PERCENTILES] if num else []


def _named(values: Iterator[float]) -> Percentiles:
    p50, p90, p95, p99 = tuple(values) or (None,) * len(PERCENTILES)
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99)


class _Search:
    """Search for percentiles in two passes over blocks of values.

    The first pass counts the values by the leading bits of their floating-point form, whose order
    is that of the numbers. The second pass keeps those values whose leading bits are those of a
    percentile, each distinct value once with its number.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(1 << _LEADING_BITS, np.int64)
        self._sought: IntColumn | None = None  # leading bits of the percentiles
        self._kept = np.zeros(0)
        self._numbers = np.zeros(0, np.int64)

    def count(self, values: FloatColumn) -> None:
        """First pass: take note of the values that exist."""
        places, numbers = np.unique(_leading(_known(values)), return_counts=True)
        self._counts[places] += numbers

    def keep(self, values: FloatColumn) -> None:
        """Second pass: keep the values among which the percentiles are."""
        if self._sought is None:
            self._sought = self._bins()
        known = _known(values)
        near = known[np.isin(_leading(known), self._sought)]
        self._kept, places = np.unique(np.concatenate((self._kept, near)), return_inverse=True)
        weights = np.concatenate((self._numbers, np.ones(len(near), np.int64)))
        self._numbers = np.bincount(places.reshape(-1), weights, len(self._kept)).astype(np.int64)

    def percentiles(self) -> Percentiles:
        """Return the percentiles of all values."""
        return _named(map(self._at, _ranks(int(self._counts.sum()))))

    def _bins(self) -> IntColumn:
        ends = np.cumsum(self._counts)
        found: IntColumn = np.searchsorted(ends, _ranks(int(ends[-1])), "right")
        return found

    def _at(self, rank: int) -> float:
        """Return the value at a place among all sorted values."""
        ends = np.cumsum(self._counts)
        place = int(np.searchsorted(ends, rank, "right"))
        before = int(ends[place - 1]) if place else 0
        own = _leading(self._kept) == place
        row = np.searchsorted(np.cumsum(self._numbers[own]), rank - before, "right")
        return float(self._kept[own][row])


def _known(values: FloatColumn) -> FloatColumn:
    found: FloatColumn = values[~np.isnan(values)] + 0.0  # -0.0 becomes 0.0
    return found


def _leading(values: FloatColumn) -> IntColumn:
    """Return the leading bits of numbers, from 0, in the order of the numbers."""
    bits = np.ascontiguousarray(values, np.float64).view(np.int64)
    ordered = bits ^ ((bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))
    found: IntColumn = (ordered >> (64 - _LEADING_BITS)) + (1 << (_LEADING_BITS - 1))
    return found
