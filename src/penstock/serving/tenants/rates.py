"""Rate limits of a tenant, per minute."""

from math import inf


class Bucket:
    """A token bucket: holds the amount of one minute, starts full and refills at a constant rate.

    In t seconds at most ``per_minute * (1 + t / 60)`` passes. Times are seconds on a monotonic
    clock. The level becomes negative when a request uses more than was taken for it; further
    requests then wait until the level is positive again.
    """

    __slots__ = ("_at_s", "_level", "_most", "per_minute")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._most = self._level = float(per_minute)
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Return the seconds until this amount may be taken: 0 for now, infinite where it exceeds
        the bucket."""
        if amount > self.per_minute:
            return inf
        if now_s > self._at_s:
            self._fill(now_s)
        # The small term absorbs rounding of sums, which would cause a wait of 1e-12 s.
        return max(0.0, (amount - self._level - 1e-9) * 60.0 / self.per_minute)

    def take(self, amount: float, now_s: float) -> None:
        """Take an amount, or give back where it is negative."""
        if now_s > self._at_s:
            self._fill(now_s)
        self._level = min(self._level - amount, self._most)

    def _fill(self, now_s: float) -> None:
        self._level = min(self._most, self._level + (now_s - self._at_s) * self._most / 60.0)
        self._at_s = now_s
