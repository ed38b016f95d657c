"""Forecast of a rate of arrivals, by whichever simple forecast has proved best so far."""

from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from statistics import median
from typing import NamedTuple

from penstock.policy.scale.history import History

WINDOWS_S = (30.0, 60.0, 120.0, 240.0, 600.0)
"""Windows of mean rates, each a forecast that the rate stays."""

TREND = "trend"
TREND_S = (60.0, 240.0)
"""A short and a long window, whose difference is a trend."""

BURSTS_S = (10.0, 20.0)
"""Windows in which a burst is seen."""

_BURST_SIGMAS = 3.0
_COUNTS_S = 600.0  # time whose counts tell how much chance moves them
_FEWEST_COUNTS = 12
_USUAL_WEIGHT = 4.0  # judgements that outweigh the error assumed before any
MEMORY_S = 6 * 3600.0
"""Time after which an error of a forecast has lost most of its weight."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Expected requests per second after the lead, the spread of the logarithm of actual over
    expected rates, and the name of the forecast that gave them."""

    rate_per_s: float
    spread: float
    method: str


class Burst(NamedTuple):
    """Requests per second of the last ``window_s``, less what chance may add to them."""

    rate_per_s: float
    window_s: float


class RateForecast:
    """Judges forecasts of a counter's rate after ``lead_s`` by what came, and gives the best one's.

    Every forecast is written down when it is made. Once its moment has passed, the squared
    logarithm of actual over expected rate counts as its error, with exponentially less weight as
    time goes on. No daily pattern is assumed: on the production traffic of ServeGen, yesterday and
    last week are worse forecasts than the last minutes.
    """

    def __init__(self, lead_s: float, span_s: float = 60.0) -> None:
        self._lead_s = lead_s
        self._span_s = span_s  # over which an actual rate is measured
        self._counts = History[float](max(*WINDOWS_S, lead_s + span_s) + span_s)
        self._made: History[dict[str, float]] = History(lead_s + 2.0 * span_s)
        self._errors: dict[str, tuple[float, float]] = {}  # weighted sum of squares, and weights
        self._judged_s = 0.0
        self._first_s: float | None = None

    def add(self, now_s: float, count: float) -> None:
        """Add the counter's value, judge the forecasts whose moment has come, and make new
        ones."""
        if self._first_s is None:
            self._first_s = now_s
        self._counts.add(now_s, count)
        if now_s - self._judged_s >= 0.5 * self._span_s:
            self._judge(now_s)
            self._judged_s = now_s
            self._made.add(now_s, self._forecasts(now_s))

    def best(self, now_s: float) -> Forecast | None:
        """Return the forecast, None before any arrivals could be counted."""
        found = self._forecasts(now_s)
        if not found:
            return None
        squares = {name: self._mean_square(name, rate) for name, rate in found.items()}
        name = min(found, key=lambda one: (squares[one], one))
        return Forecast(found[name], squares[name] ** 0.5, name)

    def rate_since(self, from_s: float, now_s: float) -> float | None:
        """Return the mean rate from a time on, None where the counter is not known for so long."""
        then, now = self._counts.at(from_s), self._counts.at(now_s)
        if then is None or now is None or now[0] <= then[0]:
            return None
        return (now[1] - then[1]) / (now[0] - then[0])

    def burst(self, now_s: float) -> Burst:
        """Return the highest of the rates of the last seconds, each less what chance may add."""
        dispersion, found = self._dispersion(now_s), Burst(0.0, BURSTS_S[0])
        for window_s in BURSTS_S:
            rate = self.rate_since(now_s - window_s, now_s) or 0.0
            least = rate - _BURST_SIGMAS * sqrt(dispersion * rate / window_s)
            found = max(found, Burst(least, window_s))
        return found

    def _dispersion(self, now_s: float) -> float:
        """Return the variance over the mean of counts of late, at least 1, as of Poisson arrivals.

        The median of differences between neighbouring counts tells of chance, not of changes of
        the rate; 1.4826 makes it a standard deviation.
        """
        values = self._counts.since(now_s - _COUNTS_S)
        counts = [after - before for before, after in pairwise(values)]
        if len(counts) < _FEWEST_COUNTS:
            return 1.0
        sd = 1.4826 * median(abs(after - before) for before, after in pairwise(counts)) / sqrt(2.0)
        mean = sum(counts) / len(counts)
        return max(1.0, sd * sd / mean) if mean > 0.0 else 1.0

    def _forecasts(self, now_s: float) -> dict[str, float]:
        assert self._first_s is not None, "a value was added"
        found: dict[str, float] = {}
        for window_s in WINDOWS_S:
            # The shortest window counts from the start; longer ones only when they are full.
            if window_s > WINDOWS_S[0] and now_s - self._first_s < window_s:
                break
            rate = self.rate_since(now_s - window_s, now_s)
            if rate is not None:
                found[f"last {window_s:g} s"] = rate
        short, long = (found.get(f"last {window_s:g} s") for window_s in TREND_S)
        if short is not None and long is not None:
            slope = (short - long) / (0.5 * (TREND_S[1] - TREND_S[0]))
            found[TREND] = max(0.0, short + slope * self._lead_s)
        return found

    def _judge(self, now_s: float) -> None:
        made = self._made.at(now_s - self._lead_s - 0.5 * self._span_s)
        actual = self.rate_since(now_s - self._span_s, now_s)
        if made is None or actual is None or made[0] > now_s - self._lead_s:
            return
        keep = exp(-0.5 * self._span_s / MEMORY_S)
        for name, expected in made[1].items():
            squares, weights = self._errors.get(name, (0.0, 0.0))
            # A request more in either rate: a rate of 0 has a logarithm then.
            one = 1.0 / self._span_s
            error = log((actual + one) / (expected + one)) ** 2
            self._errors[name] = (keep * squares + error, keep * weights + 1.0)

    def _mean_square(self, name: str, rate_per_s: float) -> float:
        squares, weights = self._errors.get(name, (0.0, 0.0))
        # Before a forecast is judged, it is taken to err by chance, less over a longer window, and
        # by change, more over a longer one; a trend errs twice as much as its short window.
        window_s = TREND_S[0] if name == TREND else float(name.split()[1])
        usual = 1.0 / max(1.0, rate_per_s * window_s) + 0.2 ** 2 * window_s / 120.0
        usual *= 2.0 if name == TREND else 1.0
        return (squares + _USUAL_WEIGHT * usual) / (weights + _USUAL_WEIGHT)
