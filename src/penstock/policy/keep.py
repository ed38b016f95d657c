"""Value of keeping what is loaded: one rule for models on devices and adapters in memory."""

from math import inf

_LEAST_GAP_S = 1e-9  # keeps the rate finite after thousands of arrivals at one instant
_LEARNING = 0.1  # about the last ten requests for an adapter, of which there may be hundreds
_IDLE_SHARE = 0.2  # of the time since the latest arrival that counts as a gap


class ArrivalRate:
    """Recent rate of arrivals. ``learning`` is the weight of the latest gap between two of them.

    The rate is 0 until two requests have arrived at different moments.
    """

    __slots__ = ("_gap_s", "_last_s", "_learning")

    def __init__(self, learning: float) -> None:
        self._learning = learning
        self._gap_s = inf
        self._last_s = -inf

    def copy(self) -> "ArrivalRate":
        """Return a rate that is learned on apart."""
        found = ArrivalRate(self._learning)
        found._gap_s, found._last_s = self._gap_s, self._last_s
        return found

    def note(self, now_s: float) -> None:
        """Record an arrival."""
        gap_s, self._last_s = now_s - self._last_s, now_s
        if self._gap_s < inf:
            self._gap_s += self._learning * (gap_s - self._gap_s)
        elif gap_s > 0.0:
            self._gap_s = gap_s

    def rate_per_s(self, now_s: float) -> float:
        """Return requests per second, which falls while none arrives."""
        gap_s = _IDLE_SHARE * (now_s - self._last_s)
        if gap_s < self._gap_s:
            gap_s = self._gap_s
        return 1.0 / gap_s if gap_s > _LEAST_GAP_S else 1.0 / _LEAST_GAP_S


def reload_wait(rate_per_s: float, load_s: float, size: float) -> float:
    """Return the requests that would wait for a load of what makes way, per unit of room that it
    frees. What has the lowest value makes way first."""
    return rate_per_s * load_s / size


class Demand:
    """Recent arrival rates of requests by the adapter that they need."""

    __slots__ = ("_now_s", "_rates")

    def __init__(self) -> None:
        self._rates: dict[str, ArrivalRate] = {}
        self._now_s = -inf

    def copy(self) -> "Demand":
        """Return rates that are learned on apart."""
        found = Demand()
        found._rates = {adapter: rate.copy() for adapter, rate in self._rates.items()}
        found._now_s = self._now_s
        return found

    def note(self, adapter: str, now_s: float) -> None:
        """Record an arrival. Times before an earlier arrival count as the time of that one."""
        if now_s > self._now_s:
            self._now_s = now_s
        rate = self._rates.get(adapter)
        if rate is None:
            rate = self._rates[adapter] = ArrivalRate(_LEARNING)
        rate.note(self._now_s)

    def keep(self, adapter: str, load_s: float) -> float:
        """Return the value of keeping an adapter in its place, as of the latest arrival."""
        rate = self._rates.get(adapter)
        return 0.0 if rate is None else reload_wait(rate.rate_per_s(self._now_s), load_s, 1.0)
