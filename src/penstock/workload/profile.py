"""How the arrival rate changes over time, as exact integrals that can be inverted.

A process with rate r(t) is a unit-rate process seen through t -> integral of r (time rescaling;
Daley and Vere-Jones, "An Introduction to the Theory of Point Processes", section 7.4). Profiles
are relative: their mean is 1, and the traffic source says how many requests per second that is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from penstock.core.errors import InputError
from penstock.workload.workload import FloatColumn

DAY_S = 86_400.0
_SINE_PIECES = 1440
_STAYS_PER_DRAW = 256


class RateProfile(Protocol):
    """A relative rate over time, of mean 1."""

    def times_s(self, work: FloatColumn, rate_per_s: float,
                rng: np.random.Generator) -> FloatColumn:
        """When ``rate_per_s`` times the profile's integral reaches each of the sorted ``work``."""

    def expected(self, duration_s: float, rate_per_s: float, rng: np.random.Generator) -> float:
        """The integral from 0 to ``duration_s``: arrivals to expect by then."""


@dataclass(frozen=True, slots=True)
class SteadyRate:
    """The same rate at all times."""

    def times_s(self, work: FloatColumn, rate_per_s: float,
                rng: np.random.Generator) -> FloatColumn:
        """See RateProfile."""
        return work / rate_per_s

    def expected(self, duration_s: float, rate_per_s: float,
                 rng: np.random.Generator) -> float:
        """See RateProfile."""
        return duration_s * rate_per_s


# Not slotted: the integral at the knots is computed once, on first use.
@dataclass(frozen=True)
class PiecewiseRate:
    """A relative rate that runs linearly from ``starts[i]`` to ``ends[i]`` during piece i.

    ``widths_s`` are the pieces' durations. A ``periodic`` profile starts again after the last
    piece; another keeps its last rate for ever. The functions below make profiles of mean 1.
    """

    widths_s: FloatColumn
    starts: FloatColumn
    ends: FloatColumn
    periodic: bool = True

    @cached_property
    def _knots_s(self) -> FloatColumn:
        knots: FloatColumn = np.concatenate(([0.0], np.cumsum(self.widths_s)))
        return knots

    @cached_property
    def _knots_work(self) -> FloatColumn:
        areas = (self.starts + self.ends) / 2 * self.widths_s
        knots: FloatColumn = np.concatenate(([0.0], np.cumsum(areas)))
        return knots

    @cached_property
    def _slopes(self) -> FloatColumn:
        slopes: FloatColumn = (self.ends - self.starts) / self.widths_s
        return slopes

    def times_s(self, work: FloatColumn, rate_per_s: float,
                rng: np.random.Generator) -> FloatColumn:
        """See RateProfile. Raises InputError when a rate that ends at 0 never gets there."""
        relative = work / rate_per_s
        length_s, total = float(self._knots_s[-1]), float(self._knots_work[-1])
        if self.periodic:
            cycles, rest = np.divmod(relative, total)
            return self._inverted(rest) + cycles * length_s
        beyond = np.maximum(relative - total, 0.0)
        if not beyond.any():
            return self._inverted(relative)
        if self.ends[-1] <= 0.0:
            raise InputError(f"the arrival rate falls to 0 at {length_s:g} s, before the "
                             "requested number of requests has arrived")
        return self._inverted(np.minimum(relative, total)) + beyond / float(self.ends[-1])

    def _inverted(self, work: FloatColumn) -> FloatColumn:
        """Time at which the integral reaches ``work``, all within the pieces."""
        piece = np.searchsorted(self._knots_work, work, "right") - 1
        piece = np.minimum(piece, len(self.starts) - 1)
        rest = work - self._knots_work[piece]
        rate = self.starts[piece]
        # Root of rate*t + slope*t^2/2 = rest, in the form that stays exact when the slope is 0.
        at_end = np.sqrt(np.maximum(rate * rate + 2.0 * self._slopes[piece] * rest, 0.0))
        passed = np.divide(2.0 * rest, rate + at_end, out=np.zeros_like(rest), where=rest > 0.0)
        times: FloatColumn = np.minimum(self._knots_s[piece] + passed, self._knots_s[piece + 1])
        return times

    def expected(self, duration_s: float, rate_per_s: float,
                 rng: np.random.Generator) -> float:
        """See RateProfile."""
        length_s, total = float(self._knots_s[-1]), float(self._knots_work[-1])
        cycles, rest = divmod(duration_s, length_s) if self.periodic else (0.0, duration_s)
        if rest >= length_s:
            return float(total + (rest - length_s) * self.ends[-1]) * rate_per_s
        piece = int(np.searchsorted(self._knots_s, rest, "right")) - 1
        passed = rest - self._knots_s[piece]
        work = self.starts[piece] * passed + self._slopes[piece] * passed**2 / 2
        return float(cycles * total + self._knots_work[piece] + work) * rate_per_s


def ramp(start: float, end: float, duration_s: float) -> PiecewiseRate:
    """From ``start`` to ``end`` in a straight line over ``duration_s``, then ``end`` for ever.

    The mean of 1 is that of the ramp itself: the source's rate is (start + end) / 2.
    """
    return piecewise([duration_s], [start], [end], periodic=False)


def square_wave(low: float, high: float, low_s: float, high_s: float) -> PiecewiseRate:
    """``low`` for ``low_s``, then ``high`` for ``high_s``, and again."""
    return piecewise([low_s, high_s], [low, high], [low, high])


def hourly(rates: Sequence[float], hour_s: float = 3600.0) -> PiecewiseRate:
    """One constant rate per hour, repeated; 24 of them make a day."""
    if not len(rates):
        raise InputError("an hourly profile has no rates; expected one per hour")
    return piecewise([hour_s] * len(rates), rates, rates)


def diurnal(peak_to_mean: float, period_s: float = DAY_S,
            peak_at_s: float | None = None) -> PiecewiseRate:
    """A sine of mean 1 whose crest is ``peak_to_mean`` (1 to 2).

    The crest stands at ``peak_at_s`` of each period, by default in its middle. 1,440 straight
    pieces follow the sine within 3e-6 of the mean rate.
    """
    if not 1.0 <= peak_to_mean <= 2.0:
        raise InputError(f"peak_to_mean is {peak_to_mean:g}; expected 1 to 2, since a sine that "
                         "rises further falls below 0")
    if not 0.0 < period_s < np.inf:
        raise InputError(f"period_s is {period_s:g}; expected a positive time")
    crest_s = period_s / 2 if peak_at_s is None else peak_at_s
    knots_s = np.linspace(0.0, period_s, _SINE_PIECES + 1)
    swing = np.cos(2 * np.pi * (knots_s - crest_s) / period_s)
    rates = np.maximum(1.0 + (peak_to_mean - 1.0) * swing, 0.0)
    return piecewise([period_s / _SINE_PIECES] * _SINE_PIECES, rates[:-1], rates[1:])


def piecewise(widths_s: Sequence[float], starts: Sequence[float] | FloatColumn,
                ends: Sequence[float] | FloatColumn, *, periodic: bool = True) -> PiecewiseRate:
    """The profile of mean 1 with these proportions; InputError when they are not usable."""
    widths, start, end = (np.array(column, np.float64) for column in (widths_s, starts, ends))
    if not (np.isfinite(widths) & (widths > 0)).all():
        raise InputError("a piece of a rate profile does not last a positive time")
    rates = np.concatenate((start, end))
    if not (np.isfinite(rates) & (rates >= 0)).all() or not rates.any():
        raise InputError("rates of a profile must not be negative, nor all 0")
    mean = float(((start + end) / 2 * widths).sum() / widths.sum())
    return PiecewiseRate(widths, start / mean, end / mean, periodic)


@dataclass(frozen=True, slots=True)
class OnOffRate:
    """Bursts: the rate jumps between two levels and stays for exponential times.

    A two-state Markov-modulated process. ``on_s`` and ``off_s`` are mean stays, ``off_share`` the
    off-rate as a share of the on-rate. It starts off or on by the long-run odds. The mean over a
    long time is 1; one realisation strays from it.
    """

    on_s: float
    off_s: float
    off_share: float = 0.0

    def times_s(self, work: FloatColumn, rate_per_s: float,
                rng: np.random.Generator) -> FloatColumn:
        """See RateProfile. The stays come from ``rng``, and do not depend on the rate."""
        if not len(work):
            return work
        course = self._realised(rng, until_work=float(work[-1]) / rate_per_s)
        return course.times_s(work, rate_per_s, rng)

    def expected(self, duration_s: float, rate_per_s: float, rng: np.random.Generator) -> float:
        """See RateProfile; for the very stays that ``times_s`` draws from an equal ``rng``."""
        course = self._realised(rng, until_s=duration_s)
        return course.expected(duration_s, rate_per_s, rng)

    def _realised(self, rng: np.random.Generator, *, until_s: float = 0.0,
                  until_work: float = 0.0) -> PiecewiseRate:
        """One course of stays, long enough to pass both bounds."""
        on_odds = self.on_s / (self.on_s + self.off_s)
        on_rate = 1.0 / (on_odds + (1.0 - on_odds) * self.off_share)
        means_s, rates = np.array([self.on_s, self.off_s]), np.array([on_rate, on_rate
                                                                      * self.off_share])
        if rng.random() >= on_odds:
            means_s, rates = means_s[::-1], rates[::-1]
        stays: list[FloatColumn] = []
        total_s = total_work = 0.0
        while total_s <= until_s or total_work <= until_work:
            stays.append(rng.standard_exponential((_STAYS_PER_DRAW, 2)) * means_s)
            total_s += float(stays[-1].sum())
            total_work += float((stays[-1] * rates).sum())
        widths_s = np.concatenate(stays).ravel()
        levels = np.tile(rates, len(widths_s) // 2)
        return PiecewiseRate(widths_s, levels, levels, periodic=False)


def bursty(on_s: float, off_s: float, off_share: float = 0.0) -> OnOffRate:
    """An OnOffRate with its arguments checked: positive stays, ``off_share`` from 0 to 1."""
    if not (0 < on_s < np.inf and 0 < off_s < np.inf):
        raise InputError(f"bursty stays are {on_s:g} s and {off_s:g} s; expected positive times")
    if not 0.0 <= off_share <= 1.0:
        raise InputError(f"off_share is {off_share:g}; expected 0 to 1")
    return OnOffRate(on_s, off_s, off_share)
