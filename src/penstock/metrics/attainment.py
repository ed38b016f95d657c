"""Attainment with its interval, goodput and the windows of rates."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

from penstock.metrics.table import RequestTable

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


def observed_span_s(table: RequestTable) -> tuple[float, float]:
    """Return the first arrival, and the last arrival or token, whichever is later; two zeros when
    empty."""
    if not len(table):
        return 0.0, 0.0
    moments = np.concatenate((table.arrival_s, table.last_token_s))
    return float(table.arrival_s.min()), float(np.nanmax(moments))


def observed_window_s(table: RequestTable) -> float:
    """Return the time from the first arrival to the last arrival or token, whichever is later; 0
    when empty.

    The time a fleet takes to drain its last requests counts: otherwise a run that accepts a burst
    and serves it an hour later would show the burst's own rate as goodput.
    """
    began_s, ended_s = observed_span_s(table)
    return ended_s - began_s


def arrival_window_s(table: RequestTable) -> float:
    """Return the time from the first to the last arrival, 0 when empty. Arrival rates are over this
    window."""
    return float(np.ptp(table.arrival_s)) if len(table) else 0.0


def per_second(amount: float, window_s: float) -> float | None:
    """Return a rate over the window, ``None`` for an empty window."""
    return amount / window_s if window_s > 0 else None
