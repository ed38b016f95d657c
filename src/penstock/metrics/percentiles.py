"""Percentiles by nearest rank, also of more values than memory holds."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import chain
from math import ceil
from typing import Final, NamedTuple, TypeVar

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.run_summary import Percentiles

PERCENTILES: Final = (50, 90, 95, 99)
_LEADING_BITS: Final = 24
"""Bits of the first pass: values in one bin differ by less than 1 in 4,000."""
_MORE_BITS: Final = 16
_MOST_COUNTED: Final = 1 << 18
_MAGNITUDE: Final = np.int64(0x7FFF_FFFF_FFFF_FFFF)

Key = TypeVar("Key", bound=Hashable)


def percentiles(values: FloatColumn) -> Percentiles:
    """Return p50, p90, p95 and p99 by nearest rank over the values that exist."""
    known = np.sort(values[~np.isnan(values)])
    return _named(float(known[rank]) for rank in _ranks(len(known)))


def percentiles_by_key(blocks: Callable[[], Iterator[Mapping[Key, FloatColumn]]]
                       ) -> dict[Key, Percentiles]:
    """Return the percentiles of the values of each key over all blocks.

    Several blocks are asked for twice or more often, so that their values need not be held.
    """
    passing = blocks()
    first = next(passing)
    second = next(passing, None)
    if second is None:
        return {key: percentiles(values) for key, values in first.items()}
    found = {key: _Search() for key in first}
    rest = found
    following: Iterator[Mapping[Key, FloatColumn]] = chain((first, second), passing)
    while rest:
        for block in following:
            for key, search in rest.items():
                search.count(block[key])
        rest = {key: search for key, search in rest.items() if search.goes_on()}
        following = blocks()
    return {key: search.percentiles() for key, search in found.items()}


def _ranks(num: int) -> list[int]:
    """Return the places of the percentiles among sorted values, none where there is no value."""
    return [ceil(q * num / 100) - 1 for q in PERCENTILES] if num else []


def _named(values: Iterator[float]) -> Percentiles:
    p50, p90, p95, p99 = tuple(values) or (None,) * len(PERCENTILES)
    return Percentiles(p50=p50, p90=p90, p95=p95, p99=p99)


class _Search:
    """Search for percentiles in passes over blocks of values.

    The order of floating-point numbers is that of their bits, read as whole numbers. Each pass
    counts the values by more of their leading bits, and only those values whose known bits are
    those of a percentile. The last pass counts whole values. At most about ``_MOST_COUNTED`` whole
    values, or ``2 ** _MORE_BITS`` bins of each percentile, are held.
    """

    def __init__(self) -> None:
        self._bits = _LEADING_BITS
        self._known_bits = 0
        self._counted = _nothing()
        self._ranks: list[int] | None = None  # of the percentiles, among values of equal known bits
        self._sought: IntColumn = np.zeros(0, np.int64)  # known bits of the percentiles

    def count(self, values: FloatColumn) -> None:
        """Take note of values in the present pass."""
        bits = _ordered(values[~np.isnan(values)])
        if self._known_bits:
            bits = bits[np.isin(bits >> (64 - self._known_bits), self._sought)]
        self._counted = self._counted.with_more(bits >> (64 - self._bits))

    def goes_on(self) -> bool:
        """End a pass. Returns whether another one is needed."""
        if self._ranks is None:
            self._ranks = _ranks(int(self._counted.numbers.sum()))
        found, ranks, held = [], [], {}
        for place, rank in enumerate(self._ranks):
            same = self._counted
            if self._known_bits:
                same = same.of(self._bits - self._known_bits, self._sought[place])
            bits, before, number = same.at(rank)
            held[bits] = number
            found.append(bits)
            ranks.append(rank - before)
        self._sought, self._ranks = np.array(found, np.int64), ranks
        self._known_bits = self._bits
        if self._bits == 64 or not ranks:
            return False
        few = sum(held.values()) <= _MOST_COUNTED
        self._bits = 64 if few else min(64, self._bits + _MORE_BITS)
        self._counted = _nothing()
        return True

    def percentiles(self) -> Percentiles:
        """Return the percentiles of all values, after the last pass."""
        return _named(iter(_values(self._sought).tolist()))


class _Numbered(NamedTuple):
    """Distinct whole numbers in order, and how often each is there."""

    values: IntColumn
    numbers: IntColumn

    def with_more(self, values: IntColumn) -> "_Numbered":
        """Return these values and more."""
        new, numbers = np.unique(values, return_counts=True)
        merged, places = np.unique(np.concatenate((self.values, new)), return_inverse=True)
        weights = np.concatenate((self.numbers, numbers)).astype(np.float64)
        return _Numbered(merged, np.bincount(places.reshape(-1), weights, len(merged)
                                             ).astype(np.int64))

    def of(self, more_bits: int, known: int) -> "_Numbered":
        """Return the values whose bits are these before the last ``more_bits``."""
        same = self.values >> more_bits == known
        return _Numbered(self.values[same], self.numbers[same])

    def at(self, rank: int) -> tuple[int, int, int]:
        """Return the value at a place among all in order, how many come before that value, and how
        often it is there."""
        ends = np.cumsum(self.numbers)
        row = int(np.searchsorted(ends, rank, "right"))
        return int(self.values[row]), int(ends[row - 1]) if row else 0, int(self.numbers[row])


def _nothing() -> _Numbered:
    return _Numbered(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _ordered(values: FloatColumn) -> IntColumn:
    """Return the bits of numbers as whole numbers of the same order."""
    bits = (values + 0.0).view(np.int64)  # -0.0 becomes 0.0
    found: IntColumn = bits ^ ((bits >> 63) & _MAGNITUDE)
    return found


def _values(ordered: IntColumn) -> FloatColumn:
    """Return the numbers of such bits."""
    found: FloatColumn = (ordered ^ ((ordered >> 63) & _MAGNITUDE)).view(np.float64)
    return found
