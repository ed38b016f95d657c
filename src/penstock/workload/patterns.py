"""The three traffic patterns of SINCERE (Antonio-MI/sincere, commit 285e5b7; arXiv 2505.16501).

``published`` sends as its client did: a request, then a sleep of one drawn gap, then a look at
what the rate is now. So a gap that was drawn at a low rate runs on into the next phase, what a send
takes is never made up for, and the mean rate is another than the nominal one. ``exact`` has the
same shapes without that: phases end in time, and exactly rate x duration requests arrive.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import numpy as np

from penstock.core.errors import InputError, nearest
from penstock.workload.arrivals import ArrivalProcess
from penstock.workload.profile import PiecewiseRate, RateProfile, SteadyRate, piecewise
from penstock.workload.workload import FloatColumn, IntColumn

Pattern = Literal["gamma", "bursty", "ramp"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
"""Poisson arrivals (gamma gaps of shape 1); bursts and idle phases; a rate that goes up and
down."""

SEND_S = 0.0014
"""Seconds that a request adds to the gap after it: the gaps of the logged gamma runs exceed the
drawn gaps by 1.3 to 1.6 ms in the mean."""

RAMP_S = 20.0
LEAST_RAMP_RATE = 1.0


class Between(NamedTuple):
    """Bounds of a uniform draw."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One of them."""
        return float(rng.uniform(self.low, self.high))

    def times(self, factor: float) -> "Between":
        """Both ends multiplied."""
        return Between(self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Shape:
    """Draws of ``bursty`` and ``ramp`` at one nominal rate. Lengths are seconds, rates requests
    per second; each is drawn anew for every phase."""

    burst_s: Between
    burst_rate: Between
    idle_s: Between
    idle_rate: Between
    ramp_peak: float


SHAPES: Mapping[float, Shape] = MappingProxyType({
    4.0: Shape(Between(1, 3), Between(20, 35), Between(10, 18), Between(0, 1), 7.0),
    8.0: Shape(Between(1, 4), Between(30, 45), Between(8, 12), Between(0, 1), 15.0),
    12.0: Shape(Between(1, 4), Between(50, 75), Between(8, 12), Between(0, 1), 24.0),
})
"""By nominal rate, as published."""


def shape(rate_per_s: float) -> Shape:
    """The published shape of a rate; for any other, that of the nearest with its rates scaled."""
    known = min(SHAPES, key=lambda rate: (abs(rate - rate_per_s), rate))
    found, factor = SHAPES[known], rate_per_s / known
    return found if factor == 1.0 else Shape(
        found.burst_s, found.burst_rate.times(factor), found.idle_s,
        found.idle_rate.times(factor), found.ramp_peak * factor)


def published(pattern: Pattern, rate_per_s: float, duration_s: float, rng: np.random.Generator,
              send_s: float = SEND_S) -> FloatColumn:
    """Arrival times from 0 to ``duration_s``, seconds, as the published client sends them.

    Raises InputError for an unknown pattern and for bounds that are not positive.
    """
    _check(pattern, rate_per_s, duration_s)
    if pattern == "gamma":
        gaps = _steady_gaps(rate_per_s, rng)
    elif pattern == "ramp":
        gaps = _ramp_gaps(shape(rate_per_s), rng, send_s)
    else:
        gaps = _bursty_gaps(shape(rate_per_s), rng, send_s)
    times, now_s = [], 0.0
    while now_s < duration_s:
        times.append(now_s)
        now_s += next(gaps) + send_s
    return np.array(times)


def exact(pattern: Pattern, rate_per_s: float, duration_s: float,
          rng: np.random.Generator) -> FloatColumn:
    """Arrival times of the same shape; round(rate x duration) of them, the last at the end.

    Raises InputError for an unknown pattern and for bounds that are not positive.
    """
    _check(pattern, rate_per_s, duration_s)
    drawn = shape(rate_per_s)
    profile: RateProfile
    if pattern == "gamma":
        profile = SteadyRate()
    elif pattern == "ramp":
        low, high = min(LEAST_RAMP_RATE, drawn.ramp_peak), drawn.ramp_peak
        profile = _whole([RAMP_S, RAMP_S], [low, high], [high, low], duration_s)
    else:
        phases = _phases(drawn, rng)
        widths, rates, covered_s = [], [], 0.0
        while covered_s < duration_s:
            length_s, rate = next(phases)
            widths.append(min(length_s, duration_s - covered_s))
            rates.append(rate)
            covered_s += length_s
        profile = piecewise(widths, rates, rates, periodic=False)
    process = ArrivalProcess(profile=profile, exact_rate=True)
    return process.arrivals(rng, rate_per_s, duration_s=duration_s)


def mixed(shares: Sequence[float], num_requests: int, rng: np.random.Generator) -> IntColumn:
    """Return the model of each request, drawn independently in proportion to ``shares``.

    Raises InputError for shares that are negative or all zero.
    """
    odds = np.asarray(shares, np.float64)
    if not (np.isfinite(odds).all() and (odds >= 0.0).all() and odds.sum() > 0.0):
        raise InputError(f"shares of models are {list(shares)}; expected numbers from 0, not all 0")
    return rng.choice(len(odds), num_requests, p=odds / odds.sum())


def _check(pattern: str, rate_per_s: float, duration_s: float) -> None:
    if pattern not in PATTERNS:
        raise InputError(f"pattern {pattern!r} is unknown{nearest(pattern, PATTERNS)}")
    for name, value in (("rate_per_s", rate_per_s), ("duration_s", duration_s)):
        if not 0.0 < value < inf:
            raise InputError(f"{name} is {value:g}; expected a positive number")


def _whole(widths_s: Sequence[float], starts: Sequence[float], ends: Sequence[float],
           duration_s: float) -> PiecewiseRate:
    """A periodic course, cut at ``duration_s`` and of mean 1 up to there."""
    pieces: list[tuple[float, float, float]] = []
    covered_s, at = 0.0, 0
    while covered_s < duration_s:
        width, start, end = widths_s[at], starts[at], ends[at]
        left_s = duration_s - covered_s
        if left_s < width:
            width, end = left_s, start + (end - start) * left_s / width
        pieces.append((width, start, end))
        covered_s, at = covered_s + width, (at + 1) % len(widths_s)
    widths, begins, stops = zip(*pieces, strict=True)
    return piecewise(widths, begins, stops, periodic=False)


def _steady_gaps(rate_per_s: float, rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from (rng.standard_exponential(1024) / rate_per_s).tolist()


def _ramp_gaps(drawn: Shape, rng: np.random.Generator, send_s: float) -> Iterator[float]:
    """The rate runs linearly from 1 to the peak and back; a gap has that of its beginning."""
    draws, now_s = _steady_gaps(1.0, rng), 0.0
    low, high = min(LEAST_RAMP_RATE, drawn.ramp_peak), drawn.ramp_peak
    while True:
        into_s = now_s % (2 * RAMP_S)
        risen = into_s / RAMP_S if into_s < RAMP_S else 2.0 - into_s / RAMP_S
        gap_s = next(draws) / (low + (high - low) * risen)
        now_s += gap_s + send_s
        yield gap_s


def _bursty_gaps(drawn: Shape, rng: np.random.Generator, send_s: float) -> Iterator[float]:
    """A phase is over at the first look after its length, however long the last gap was."""
    for length_s, rate in _phases(drawn, rng):
        into_s = 0.0
        while into_s < length_s:
            gap_s = float(rng.standard_exponential()) / rate
            into_s += gap_s + send_s
            yield gap_s


def _phases(drawn: Shape, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Length in seconds and rate of burst, idle, burst, and so on."""
    while True:
        yield drawn.burst_s.draw(rng), drawn.burst_rate.draw(rng)
        yield drawn.idle_s.draw(rng), drawn.idle_rate.draw(rng)
