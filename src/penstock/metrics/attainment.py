"""Attainment with its interval, and goodput."""

from dataclasses import dataclass
from math import sqrt

# Two-sided 95 % of the standard normal distribution.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Attainment:
    """Requests that met every target of their class, out of all that were received."""

    met: int
    received: int

    @property
    def share(self) -> float | None:
        """Met / received, or ``None`` when nothing was received."""
        return self.met / self.received if self.received else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % score interval of the share (Wilson 1927); holds at 0 and 1 too."""
        if not self.received:
            return None
        share, weight = self.met / self.received, Z_95**2 / self.received
        centre = (share + weight / 2) / (1 + weight)
        half = Z_95 * sqrt((share * (1 - share) + weight / 4) / self.received) / (1 + weight)
        # At the ends the formula gives exactly 0 and 1, except for rounding.
        low = 0.0 if self.met == 0 else max(0.0, centre - half)
        high = 1.0 if self.met == self.received else min(1.0, centre + half)
        return low, high

    def meets(self, percentile: float) -> bool | None:
        """Whether at least ``percentile`` % met their targets, ``None`` without requests."""
        if not self.received:
            return None
        return self.met * 100.0 >= percentile * self.received - 1e-9


def per_second(amount: float, window_s: float) -> float | None:
    """Return a rate over the window, ``None`` for an empty window."""
    return amount / window_s if window_s > 0 else None
