"""Recent values of one series, and their rates, means and extremes over a window."""

from bisect import bisect_left, bisect_right
from typing import Generic, TypeVar

Value = TypeVar("Value")


class History(Generic[Value]):
    """Values with their times, kept for ``keep_s`` seconds and one value longer, so that a window
    of that length has a value at its beginning."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._times_s: list[float] = []
        self._values: list[Value] = []

    def add(self, now_s: float, value: Value) -> None:
        """Add a value. Times rise."""
        times = self._times_s
        times.append(now_s)
        self._values.append(value)
        num_old = bisect_right(times, now_s - self._keep_s) - 1
        if num_old > 0:
            del times[:num_old], self._values[:num_old]

    def since(self, from_s: float) -> list[Value]:
        """Return the values later than ``from_s``, oldest first."""
        return self._values[bisect_right(self._times_s, from_s):]

    def within(self, from_s: float, to_s: float) -> list[Value]:
        """Return the values from one time to another, both included, oldest first."""
        return self._values[bisect_left(self._times_s, from_s):bisect_right(self._times_s, to_s)]

    def at(self, when_s: float) -> tuple[float, Value] | None:
        """Return the last value at or before a time, with its time; else the oldest value, None
        without any."""
        if not self._values:
            return None
        place = max(bisect_right(self._times_s, when_s) - 1, 0)
        return self._times_s[place], self._values[place]

    @property
    def span_s(self) -> float:
        """Time from the oldest value to the newest."""
        return self._times_s[-1] - self._times_s[0] if self._times_s else 0.0


def rate_since(counts: History[float], from_s: float, now_s: float) -> float | None:
    """Return the mean rate of a counter from a time on, or from its oldest value on; None without
    two values."""
    then, now = counts.at(from_s), counts.at(now_s)
    if then is None or now is None or now[0] <= then[0]:
        return None
    return (now[1] - then[1]) / (now[0] - then[0])


def mean_since(history: History[float], from_s: float) -> float | None:
    """Return the mean of the values later than ``from_s``, None without any."""
    found = history.since(from_s)
    return sum(found) / len(found) if found else None
