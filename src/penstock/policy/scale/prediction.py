"""Prediction of attainment: the share of an uncertain demand that replicas cover."""

from collections.abc import Callable, Iterator, Sequence
from math import erfc, exp, log, sqrt


def covered_share(rate_per_s: float, spread: float, in_time_per_s: float) -> float:
    """Return the expected share of arrivals that are within ``in_time_per_s``.

    The logarithm of the actual over the forecast rate is taken to be normal, with ``spread`` as its
    standard deviation. With c = in_time_per_s / rate_per_s and d = log(c) / spread, the expectation
    of min(1, c / error) is N(d) + c * exp(spread^2 / 2) * N(-d - spread), a truncated mean of the
    lognormal distribution.
    """
    if rate_per_s <= 0.0:
        return 1.0
    if in_time_per_s <= 0.0:
        return 0.0
    cover = in_time_per_s / rate_per_s
    if spread <= 0.0:
        return min(1.0, cover)
    depth = log(cover) / spread
    short = cover * exp(0.5 * spread * spread) * _normal(-depth - spread)
    return min(1.0, _normal(depth) + short)


def _normal(deviations: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * erfc(-deviations / sqrt(2.0))


def next_best(counts: Sequence[int], bounds: Sequence[tuple[int, int]], costs: Sequence[float],
              share: Callable[[Sequence[int]], float]) -> tuple[int, ...] | None:
    """Return the best counts with one replica fewer: those with the greatest ``share``. At the
    floors, return the cheapest counts with one replica more; None where neither is within the
    bounds."""
    fewer = list(_steps(counts, bounds, -1))
    if fewer:
        return max(fewer, key=share)
    return min(_steps(counts, bounds, 1), default=None,
               key=lambda one: sum(cost * count for cost, count in zip(costs, one, strict=True)))


def _steps(counts: Sequence[int], bounds: Sequence[tuple[int, int]], step: int
           ) -> Iterator[tuple[int, ...]]:
    for place, (low, high) in enumerate(bounds):
        if low <= counts[place] + step <= high:
            yield (*counts[:place], counts[place] + step, *counts[place + 1:])
