"""Percentiles by nearest rank, also of more values than memory holds."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from math import ceil
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.run_summary import Percentiles

PERCENTILES: Final = (50, 90, 95, 99)
_LEADING_BITS: Final = 24
"""Leading bits of a number that sort it: values in one bin differ by less than 1 in 4,000."""

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
        self._bins = _Numbered(np.zeros(0, np.int64), np.zeros(0, np.int64))
        self._kept = _Numbered(np.zeros(0), np.zeros(0, np.int64))
        self._sought: IntColumn | None = None  # leading bits of the percentiles

    def count(self, values: FloatColumn) -> None:
        """First pass: take note of the values that exist."""
        self._bins = self._bins.with_more(_leading(_known(values)))

    def keep(self, values: FloatColumn) -> None:
        """Second pass: keep the values among which the percentiles are."""
        if self._sought is None:
            self._sought = np.array([self._bins.at(rank)[0] for rank in self._ranks()], np.int64)
        known = _known(values)
        self._kept = self._kept.with_more(known[np.isin(_leading(known), self._sought)])

    def percentiles(self) -> Percentiles:
        """Return the percentiles of all values."""
        leading = _leading(self._kept.values)
        found = []
        for rank in self._ranks():
            place, before = self._bins.at(rank)
            own = leading == place
            of_bin = _Numbered(self._kept.values[own], self._kept.numbers[own])
            found.append(float(of_bin.at(rank - before)[0]))
        return _named(iter(found))

    def _ranks(self) -> list[int]:
        return _ranks(int(self._bins.numbers.sum()))


class _Numbered(NamedTuple):
    """Distinct values in order, and how often each is there."""

    values: NDArray[Any]
    numbers: IntColumn

    def with_more(self, values: NDArray[Any]) -> "_Numbered":
        """Return these values and more."""
        new, numbers = np.unique(values, return_counts=True)
        merged, places = np.unique(np.concatenate((self.values, new)), return_inverse=True)
        weights = np.concatenate((self.numbers, numbers)).astype(np.float64)
        return _Numbered(merged, np.bincount(places.reshape(-1), weights, len(merged)
                                             ).astype(np.int64))

    def at(self, rank: int) -> tuple[Any, int]:
        """Return the value at a place among all in order, and how many come before that value."""
        ends = np.cumsum(self.numbers)
        row = int(np.searchsorted(ends, rank, "right"))
        return self.values[row], int(ends[row - 1]) if row else 0


def _known(values: FloatColumn) -> FloatColumn:
    found: FloatColumn = values[~np.isnan(values)] + 0.0  # -0.0 becomes 0.0
    return found


def _leading(values: FloatColumn) -> IntColumn:
    """Return the leading bits of numbers, from 0, in the order of the numbers."""
    bits = np.ascontiguousarray(values, np.float64).view(np.int64)
    ordered = bits ^ ((bits >> 63) & np.int64(0x7FFF_FFFF_FFFF_FFFF))
    found: IntColumn = (ordered >> (64 - _LEADING_BITS)) + (1 << (_LEADING_BITS - 1))
    return found
