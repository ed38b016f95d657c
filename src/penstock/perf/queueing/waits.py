"""Waits along a path of requests: each one's, from the arrivals and work before it."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOST_OVERTAKING = 8


def backlog_s(at_s: Array, work_s: Array) -> Array:
    """Work that each arrival finds before a single server, in seconds (Lindley 1952).

    ``at_s`` are moments of arrival, ascending, ``work_s`` what each brings.
    """
    steps = work_s[:-1] - np.diff(at_s)
    walk = np.concatenate(([0.0], np.cumsum(steps)))
    return np.asarray(walk - np.minimum.accumulate(walk))


def queue_wait_s(at_s: Array, work_s: Array, servers: float) -> Array:
    """Waits of those who arrive before several equal servers, first come, first served.

    The backlog is that of one server as fast as all. It is less than a wait where some of many
    servers are idle: with exponential service a wait is the backlog less a constant, which
    Sakasegawa's (1977) probability of waiting, rho to the power of sqrt(2 (c + 1)) - 1, gives.
    Service of other variability stretches it as it does the wait of M/G/1.
    """
    backlog = backlog_s(at_s, work_s / servers)
    span_s = float(at_s[-1] - at_s[0]) if len(at_s) > 1 else 0.0
    mean_s = float(work_s.mean()) if len(work_s) else 0.0
    if servers <= 1.0 or span_s <= 0.0 or mean_s <= 0.0:
        return backlog
    load = min(mean_s * (len(at_s) - 1) / (servers * span_s), 1.0)
    idle_s = -np.log(load) / (1.0 - load) if load < 1.0 else 1.0
    when_waiting_s = (mean_s + float(work_s.var()) / mean_s) / (2.0 * servers)
    spared_s = when_waiting_s * (np.sqrt(2.0 * (servers + 1.0)) - 2.0) * idle_s
    return np.asarray(np.maximum(backlog - spared_s, 0.0))


def num_others(at_s: Array, leave_s: Array) -> NDArray[np.int64]:
    """How many of those that came before are still there at each arrival."""
    gone = np.searchsorted(np.sort(leave_s, kind="stable"), at_s, side="right")
    return np.arange(len(at_s)) - gone


def overtaken_s(at_s: Array, delay_s: Array, urgent_at_s: Array, urgent_s: Array,
                window_s: float) -> Array:
    """Delays with the work of urgent requests that come later and still go first.

    ``urgent_s`` is what each of those brings at ``urgent_at_s``; who arrives within ``window_s``
    goes first. The least solution of delay = own + urgent work that arrives meanwhile, from below.
    """
    total = np.concatenate(([0.0], np.cumsum(urgent_s)))
    own_s = delay_s - total[np.searchsorted(urgent_at_s, at_s, side="right")]
    for _ in range(_MOST_OVERTAKING):
        until_s = at_s + np.minimum(delay_s, window_s)
        longer = own_s + total[np.searchsorted(urgent_at_s, until_s, side="right")]
        if (longer <= delay_s * 1.01).all():
            break
        delay_s = longer
    return delay_s


class Presence:
    """How many requests of a path are there, and how much of something has come, over time.

    Kept on a grid of equal intervals, so that asking costs no search.
    """

    def __init__(self, end_s: Array, cells: int) -> None:
        self._cells = cells
        self._per_s = cells / max(float(end_s.max()), 1e-9)

    def cell(self, at_s: Array) -> NDArray[np.intp]:
        """The interval of each moment from 0 to the last end."""
        return np.minimum(at_s * self._per_s, self._cells - 1.0).astype(np.intp)

    def present(self, first: NDArray[np.intp], last: NDArray[np.intp],
                each: Array | None = None) -> Array:
        """How much there is by interval, of those there from ``first`` to ``last``: their number,
        or the sum of ``each``."""
        come = np.bincount(first, weights=each, minlength=self._cells)
        gone = np.bincount(last, weights=each, minlength=self._cells)
        return np.cumsum(come - gone).astype(np.float64)

    def accumulated(self, cell: NDArray[np.intp], amount: Array) -> Array:
        """Return the work that has arrived by the end of each interval."""
        return np.cumsum(np.bincount(cell, weights=amount, minlength=self._cells))
