"""How well repeats have settled a median."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median

COVERAGE = 0.9


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """A median with the interval between two of the values that covers it.

    ``coverage`` is the chance that such an interval covers the true median, whatever the values'
    distribution, if they are independent; below ``COVERAGE`` where there are too few values.
    """

    median: float
    low: float
    high: float
    coverage: float
    num_values: int

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width / median."""
        return 0.5 * (self.high - self.low) / self.median if self.median else 0.0


def median_interval(values: Sequence[float], coverage: float = COVERAGE) -> MedianInterval:
    """The narrowest interval between equally ranked values from both ends with that coverage.

    The chance that the median lies outside the k-th lowest and highest of n values is
    2 * sum of C(n, i) / 2^n over i < k (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    if not values:
        raise ValueError("no values")
    ordered, num = sorted(values), len(values)
    rank, covered = 1, _coverage(num, 1)
    while 2 * (rank + 1) <= num and _coverage(num, rank + 1) >= coverage:
        rank += 1
        covered = _coverage(num, rank)
    return MedianInterval(median(ordered), ordered[rank - 1], ordered[num - rank], covered, num)


def _coverage(num: int, rank: int) -> float:
    return 1.0 - 2.0 * sum(comb(num, below) for below in range(rank)) / float(2 ** num)
