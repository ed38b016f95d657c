"""Change of a rate at the same time of the day before."""

from collections import deque
from typing import Final

DAY_S: Final = 86400.0
_MINUTE_S: Final = 60.0
_AROUND: Final = 2  # minutes before the present over which yesterday's rate is a mean
_KEPT: Final = round(DAY_S / _MINUTE_S) + 16


class Yesterday:
    """Keeps a counter's value at every minute of a day, and tells by which factor its rate changed
    until ``lead_s`` later, a day ago."""

    def __init__(self, lead_s: float) -> None:
        self._ahead = max(1, round(lead_s / _MINUTE_S))
        self._counts: deque[float] = deque(maxlen=_KEPT + self._ahead)
        self._minute: int | None = None  # of the newest count

    def add(self, now_s: float, count: float) -> None:
        """Add the counter's value. Minutes without a value take the next one."""
        minute = int(now_s // _MINUTE_S)
        if self._minute is None:
            self._minute = minute - 1
        while self._minute < minute:
            self._counts.append(count)
            self._minute += 1

    def ratio(self, now_s: float) -> float | None:
        """Return the highest rate from yesterday's present on to a minute after the lead, over
        yesterday's present rate; None where it is not known."""
        if self._minute is None:
            return None
        then = int((now_s - DAY_S) // _MINUTE_S) - (self._minute - len(self._counts) + 1)
        if then < _AROUND or then + self._ahead + 1 >= len(self._counts):
            return None
        counts = self._counts
        before = (counts[then] - counts[then - _AROUND]) / _AROUND
        after = max(counts[minute + 1] - counts[minute]
                    for minute in range(then, then + self._ahead + 1))
        return after / before if before > 0.0 else None
