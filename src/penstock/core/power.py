"""Power of accelerators, and the carbon intensity of electricity."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from math import inf

from penstock.core.errors import InputError

MID_UTILIZATION = 0.6
"""Utilization of a curve's middle point where none is stated, as in Inferno's sample data."""

JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class PowerCurve:
    """Power of one accelerator in watts, piecewise linear in its utilization from 0 to 1:
    ``idle_w`` at 0, ``mid_w`` at ``mid_utilization`` and ``full_w`` at 1.

    The form is that of Inferno's accelerators (llm-inferno/optimizer-light). Raises InputError
    where power falls with utilization, or the middle point is not between the others.
    """

    idle_w: float
    mid_w: float
    full_w: float
    mid_utilization: float = MID_UTILIZATION

    def __post_init__(self) -> None:
        if not 0.0 <= self.idle_w <= self.mid_w <= self.full_w:
            raise InputError(f"idle_w {self.idle_w:g}, mid_w {self.mid_w:g} and full power "
                             f"{self.full_w:g} W; expected each at least the one before")
        if not 0.0 < self.mid_utilization < 1.0:
            raise InputError(f"mid_utilization: found {self.mid_utilization:g}; expected a share "
                             "between 0 and 1")

    @classmethod
    def of(cls, idle_w: float, full_w: float, mid_w: float | None = None,
           mid_utilization: float | None = None) -> "PowerCurve":
        """Return a curve, a straight line where ``mid_w`` is None."""
        mid = MID_UTILIZATION if mid_utilization is None else mid_utilization
        return cls(idle_w, idle_w + mid * (full_w - idle_w) if mid_w is None else mid_w, full_w,
                   mid)

    def watts(self, utilization: float) -> float:
        """Return the power at a utilization, which counts as at most 1."""
        mid, share = self.mid_utilization, min(max(utilization, 0.0), 1.0)
        if share <= mid:
            return self.idle_w + share / mid * (self.mid_w - self.idle_w)
        return self.mid_w + (share - mid) / (1.0 - mid) * (self.full_w - self.mid_w)


@dataclass(frozen=True, slots=True)
class CarbonIntensity:
    """Carbon intensity of electricity in gCO2 per kWh over time, as a published forecast has it.

    ``values[i]`` holds from ``times_s[i]`` to the next time, the first one before its time, too.
    The times rise. With ``repeat_s`` the series begins again after each such time; the last value
    then also holds before the first time. Without it, the last value holds for good.
    """

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    repeat_s: float | None = None

    @classmethod
    def constant(cls, gco2_per_kwh: float) -> "CarbonIntensity":
        """Return an intensity that never changes."""
        return cls((0.0,), (gco2_per_kwh,))

    @property
    def changes(self) -> bool:
        """Whether the intensity differs between times."""
        return min(self.values) < max(self.values)

    def at(self, time_s: float) -> float:
        """Return the intensity at a time."""
        place = bisect_right(self.times_s, self._phase_s(time_s)) - 1
        return self.values[place if self.repeat_s is not None else max(place, 0)]

    def lowest(self, from_s: float, to_s: float) -> float:
        """Return the least intensity at any time of an interval, both ends included."""
        if self.repeat_s is None:
            return min(self.at(from_s), *self._within(from_s, to_s), self.at(to_s))
        if to_s - from_s >= self.repeat_s:
            return min(self.values)
        start_s, end_s = self._phase_s(from_s), self._phase_s(to_s)
        between = self._within(start_s, end_s) if start_s <= end_s else (
            *self._within(start_s, inf), *self._within(-inf, end_s))
        return min(self.at(from_s), *between, self.at(to_s))

    def until(self, from_s: float, most: float) -> float:
        """Return the first time from ``from_s`` on at which the intensity is above ``most``,
        infinity where it stays within."""
        if self.at(from_s) > most:
            return from_s
        start_s = from_s - self._phase_s(from_s)  # of the present round
        rounds = (start_s,) if self.repeat_s is None else (start_s, start_s + self.repeat_s)
        return next((begin_s + time_s for begin_s in rounds
                     for time_s, value in zip(self.times_s, self.values, strict=True)
                     if begin_s + time_s > from_s and value > most), inf)

    def _phase_s(self, time_s: float) -> float:
        return time_s if self.repeat_s is None else time_s % self.repeat_s

    def _within(self, from_s: float, to_s: float) -> tuple[float, ...]:
        return self.values[bisect_left(self.times_s, from_s):bisect_right(self.times_s, to_s)]
