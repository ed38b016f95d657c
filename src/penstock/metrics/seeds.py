"""Means over several seeds with intervals, and the number of seeds that had a value."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

# Two-sided 95 % quantiles of Student's t for 1 to 30 degrees of freedom.
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13,
        2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05, 2.04)


def half_width(values: Sequence[float]) -> float | None:
    """Return half of the 95 % confidence interval of the mean (Student's t), None below two
    values."""
    count = len(values)
    if count < 2:
        return None
    t = _T95[count - 2] if count - 2 < len(_T95) else 1.96
    return t * float(np.std(values, ddof=1)) / math.sqrt(count)


@dataclass(frozen=True, slots=True)
class SeedMean:
    """A mean over the seeds that have a value.

    ``mean`` is None when none has one, ``half_width`` below two.
    """

    mean: float | None
    half_width: float | None
    num_known: int
    num_seeds: int


def seed_mean(values: Iterable[float | None]) -> SeedMean:
    """Return the mean of the known values, with their number."""
    every = list(values)
    known = [value for value in every if value is not None]
    return SeedMean(float(np.mean(known)) if known else None, half_width(known), len(known),
                    len(every))


def paired_difference(values: Iterable[float | None],
                      base: Iterable[float | None]) -> SeedMean:
    """Return the mean of value - base over the seeds in which both are known.

    Effects common to all runs of a seed, such as a burst, cancel out in each difference.
    """
    return seed_mean(None if value is None or other is None else value - other
                     for value, other in zip(values, base, strict=True))
