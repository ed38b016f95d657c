"""Recent values of one series, and their rates, means and extremes over a window."""

from collections import deque
from typing import Generic, TypeVar

Value = TypeVar("Value")


class History(Generic[Value]):
    """Values with their times, kept for ``keep_s`` seconds and one value longer, so that a window
    of that length has a value at its beginning."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._values: deque[tuple[float, Value]] = deque()

    def add(self, now_s: float, value: Value) -> None:
        """Add a value. Times rise."""
        values = self._values
        values.append((now_s, value))
        while len(values) > 1 and values[1][0] <= now_s - self._keep_s:
            values.popleft()

    def since(self, from_s: float) -> list[Value]:
        """Return the values later than ``from_s``, oldest first."""
        found: list[Value] = []
        for at_s, value in reversed(self._values):
            if at_s <= from_s:
                break
            found.append(value)
        return found[::-1]

    def within(self, from_s: float, to_s: float) -> list[Value]:
        """Return the values from one time to another, both included, oldest first."""
        return [value for at_s, value in self._values if from_s <= at_s <= to_s]

    def at(self, when_s: float) -> tuple[float, Value] | None:
        """Return the last value at or before a time, with its time; else the oldest value, None
        without any."""
        found = self._values[0] if self._values else None
        for one in reversed(self._values):
            if one[0] <= when_s:
                return one
        return found

    @property
    def span_s(self) -> float:
        """Time from the oldest value to the newest."""
        return self._values[-1][0] - self._values[0][0] if self._values else 0.0


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
