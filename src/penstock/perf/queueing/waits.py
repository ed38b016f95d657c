"""The wait of each request along a path, from the arrivals and the work before it."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MOST_OVERTAKING = 8


def backlog_s(at_s: Array, work_s: Array) -> Array:
    """The unfinished work that each arrival finds at a single server, in seconds (Lindley 1952).

    ``at_s`` are the arrivals in ascending order; ``work_s`` is the work of each.
    """
    steps = work_s[:-1] - np.diff(at_s)
    walk = np.concatenate(([0.0], np.cumsum(steps)))
    return np.asarray(walk - np.minimum.accumulate(walk))


def queue_wait_s(at_s: Array, work_s: Array, servers: float) -> Array:
    """Waits of arrivals at several equal servers, first come, first served.

    They start from the backlog of one server that is as fast as all together. With several servers
    an arrival may find one idle, so the wait is shorter: with exponential service it is the backlog
    less a constant, which follows from Sakasegawa's (1977) probability of waiting, rho to the power
    of sqrt(2 (c + 1)) - 1. Other variability of service scales the constant as it scales the wait
    of M/G/1.
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
    """The number of earlier requests that are still there at each arrival."""
    gone = np.searchsorted(np.sort(leave_s, kind="stable"), at_s, side="right")
    return np.arange(len(at_s)) - gone


def overtaken_s(at_s: Array, delay_s: Array, urgent_at_s: Array, urgent_s: Array,
                window_s: float) -> Array:
    """Delays that include the work of urgent requests that arrive later and still go first.

    An urgent request arrives at ``urgent_at_s`` with work ``urgent_s``. It goes first if it arrives
    within ``window_s`` after the delayed request. Iteration from below finds the least solution of
    delay = own work + urgent work that arrives during the delay.
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
    """The number of requests of a path that are present, and the work that has arrived, over time.

    Both are kept on a grid of equal intervals, so that a lookup needs no search.
    """

    def __init__(self, end_s: Array, cells: int) -> None:
        self._cells = cells
        self._per_s = cells / max(float(end_s.max()), 1e-9)

    def cell(self, at_s: Array) -> NDArray[np.intp]:
        """The interval of each moment from 0 to the last end."""
        return np.minimum(at_s * self._per_s, self._cells - 1.0).astype(np.intp)

    def present(self, first: NDArray[np.intp], last: NDArray[np.intp],
                each: Array | None = None) -> Array:
        """By interval, the number of requests that are present from ``first`` to ``last``, or the
        sum of their ``each``."""
        come = np.bincount(first, weights=each, minlength=self._cells)
        gone = np.bincount(last, weights=each, minlength=self._cells)
        return np.cumsum(come - gone).astype(np.float64)

    def accumulated(self, cell: NDArray[np.intp], amount: Array) -> Array:
        """Return the work that has arrived by the end of each interval."""
        return np.cumsum(np.bincount(cell, weights=amount, minlength=self._cells))
