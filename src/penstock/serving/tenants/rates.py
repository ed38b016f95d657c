"""How much a tenant may ask for per minute."""

from math import inf


class Bucket:
    """A token bucket: holds what one minute allows, is full at first and fills evenly.

    Over t seconds no more than ``per_minute * (1 + t / 60)`` passes. Moments are seconds on a
    clock that only goes forward. The level may be negative after what turned out to be more than
    was taken for it; then there is a wait until the debt is paid.
    """

    __slots__ = ("_at_s", "_level", "per_minute")

    def __init__(self, per_minute: int, now_s: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until so much may be taken: 0 now, infinite where it is more than ever fits."""
        if amount > self.per_minute:
            return inf
        self._fill(now_s)
        # The small term is for sums of parts of a minute: a wait of 1e-12 s is none.
        return max(0.0, (amount - self._level - 1e-9) * 60.0 / self.per_minute)

    def take(self, amount: float, now_s: float) -> None:
        """Takes so much, or gives back where it is negative."""
        self._fill(now_s)
        self._level = min(self._level - amount, float(self.per_minute))

    def _fill(self, now_s: float) -> None:
        if now_s > self._at_s:
            self._level = min(float(self.per_minute),
                              self._level + (now_s - self._at_s) * self.per_minute / 60.0)
            self._at_s = now_s
