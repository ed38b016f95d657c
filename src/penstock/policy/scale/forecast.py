"""Forecast of a rate of arrivals, with the headroom that past errors ask for."""

from collections.abc import Mapping
from itertools import pairwise
from math import exp, sqrt
from typing import NamedTuple

from penstock.policy.scale.history import History, rate_since
from penstock.policy.scale.ratios import Ratios
from penstock.policy.scale.yesterday import Yesterday

WINDOWS_S = (30.0, 120.0)
"""Windows of mean rates on which forecasts build."""

FADES_S = (0.0, 400.0, 1200.0)
"""Time constants with which a peak falls to the present rate. 0: the rate stays as it is."""

TREND, YESTERDAY = "trend", "yesterday"
TREND_S = (60.0, 240.0)
"""A short and a long window, whose difference is a trend."""

BURSTS_S = (10.0, 20.0)
"""Windows in which a burst is seen."""

_BURST_SIGMAS = 3.0
_COUNTS_S = 600.0  # time whose counts tell how much chance moves them
_FEWEST_COUNTS = 12
_USUAL_SD = 0.08  # of the logarithm of actual over forecast rate, before any is known
_USUAL_JUDGEMENTS = 2880.0  # that outweigh it: a day
_BETTER = 0.98  # ratio of costs from which another forecast takes over
MEMORY_S = 24 * 3600.0
"""Time after which an error of a forecast has lost most of its weight."""


class Burst(NamedTuple):
    """Requests per second of the last ``window_s``, less what chance may add to them."""

    rate_per_s: float
    window_s: float


class Forecast(NamedTuple):
    """Requests per second after the lead as a forecast says, its past errors, and its name."""

    rate_per_s: float
    ratios: Ratios
    method: str

    def bound_per_s(self, allowed: float) -> float:
        """Return the rate beyond which at most a share of ``allowed`` of the demand is expected."""
        return self.rate_per_s * self.ratios.headroom(allowed)

    def covered(self, rate_per_s: float) -> float:
        """Return the expected share of the demand that is within a rate."""
        if self.rate_per_s <= 0.0:
            return 1.0
        return 1.0 - self.ratios.shortfall(rate_per_s / self.rate_per_s)

    @property
    def expected_per_s(self) -> float:
        """Expected requests per second."""
        return self.rate_per_s * self.ratios.mean


class _Held(NamedTuple):
    """Sums of the rates for which a fleet that follows a forecast keeps replicas, and of those that
    came, with less weight as time goes on."""

    held: float = 0.0
    actual: float = 0.0

    def after(self, held: float, actual: float, keep: float) -> "_Held":
        """Return the sums after another pair."""
        return _Held(keep * self.held + held, keep * self.actual + actual)

    @property
    def over_actual(self) -> float:
        """Return the ratio of the sums, 1 before anything came."""
        return self.held / self.actual if self.actual > 0.0 else 1.0


class RateForecast:
    """Judges forecasts of a counter's rate after ``lead_s`` by what came, and gives the best one's.

    Every forecast is written down when it is made. Once its moment has passed, the ratio of actual
    over forecast rate is kept, with exponentially less weight as time goes on. A forecast costs the
    capacity that it would have asked for: its highest value within ``stay_s``, for which a fleet
    keeps its replicas, times the headroom beyond which the allowed share of the demand lay.
    The cheapest forecast counts, so yesterday's pattern is followed only where it has proved
    itself.
    """

    def __init__(self, lead_s: float, stay_s: float = 0.0, span_s: float = 60.0) -> None:
        self._lead_s = lead_s
        self._stay_s = stay_s
        self._span_s = span_s  # over which an actual rate is measured
        self._counts = History[float](max(*WINDOWS_S, _COUNTS_S, lead_s + span_s) + span_s)
        self._nums = History[float](span_s)
        self._made: History[Mapping[str, float]] = History(
            max(lead_s, stay_s) + lead_s + 2.0 * span_s)
        self._held: dict[str, _Held] = {}
        self._peaks: dict[str, float] = {}
        self._yesterday = Yesterday(lead_s)
        self._ratios: dict[str, Ratios] = {}
        self._best: str | None = None
        self._judged_s = self._now_s = 0.0

    def add(self, now_s: float, count: float, allowed: float, num: float | None = None) -> None:
        """Add the counter's value, judge the forecasts whose moment has come, and make new ones.

        ``allowed`` is the share of the demand that may lie beyond the headroom.
        ``num`` is the number of requests, where the counter counts them by their work. Each request
        may miss, however long it is, so errors count by requests.
        """
        self._counts.add(now_s, count)
        self._nums.add(now_s, count if num is None else num)
        self._yesterday.add(now_s, count)
        self._rise(now_s)
        if now_s - self._judged_s >= 0.5 * self._span_s:
            self._judge(now_s, allowed)
            self._judged_s = now_s
            self._made.add(now_s, self._forecasts(now_s))

    def best(self, now_s: float) -> Forecast | None:
        """Return the forecast, None before any arrivals could be counted."""
        found = self._forecasts(now_s)
        if not found:
            return None
        name = self._best if self._best in found else next(iter(found))
        ratios = self._ratios.get(name) or self._prior(found[name])
        return Forecast(found[name], ratios, name)

    def rate_since(self, from_s: float, now_s: float) -> float | None:
        """Return the mean rate from a time on, None where the counter is not known for so long."""
        return rate_since(self._counts, from_s, now_s)

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
        steps = sorted(abs(after - before) for before, after in pairwise(counts))
        sd = 1.4826 * steps[len(steps) // 2] / sqrt(2.0)
        mean = sum(counts) / len(counts)
        return max(1.0, sd * sd / mean) if mean > 0.0 else 1.0

    def _rise(self, now_s: float) -> None:
        """Let peaks fall towards the present rates, or rise to them."""
        elapsed_s, self._now_s = now_s - self._now_s, now_s
        for window_s in WINDOWS_S:
            rate = self.rate_since(now_s - window_s, now_s)
            if rate is None:
                continue
            for fade_s in FADES_S:
                name = _name(window_s, fade_s)
                peak = self._peaks.get(name, rate)
                keep = exp(-elapsed_s / fade_s) if fade_s > 0.0 else 0.0
                self._peaks[name] = max(rate, rate + (peak - rate) * keep)

    def _forecasts(self, now_s: float) -> dict[str, float]:
        found = dict(self._peaks)
        short, long = (self.rate_since(now_s - window_s, now_s) for window_s in TREND_S)
        if short is not None and long is not None:
            slope = (short - long) / (0.5 * (TREND_S[1] - TREND_S[0]))
            found[TREND] = max(0.0, short + slope * self._lead_s)
        ratio = self._yesterday.ratio(now_s)
        if ratio is not None:
            found[YESTERDAY] = found[_name(max(WINDOWS_S), 0.0)] * ratio
        return found

    def _judge(self, now_s: float, allowed: float) -> None:
        made = self._made.at(now_s - self._lead_s - 0.5 * self._span_s)
        actual = self.rate_since(now_s - self._span_s, now_s)
        num_per_s = rate_since(self._nums, now_s - self._span_s, now_s)
        if made is None or actual is None or num_per_s is None \
                or made[0] > now_s - self._lead_s:
            return
        costs = {}
        for name, forecast in made[1].items():
            if name not in self._ratios:
                self._ratios[name] = self._prior(num_per_s)
            ratios = self._ratios[name]
            ratios.add(actual, forecast, num_per_s)
            held = self._held[name] = self._held.get(name, _Held()).after(
                self._highest(name, made[0]), actual, exp(-0.5 * self._span_s / MEMORY_S))
            costs[name] = ratios.headroom(allowed) * held.over_actual
        if not costs:  # nothing was counted yet when that moment's forecasts were made
            return
        if self._best not in costs:
            self._best = next(iter(costs))
        cheapest = min(costs, key=lambda one: costs[one])
        if costs[cheapest] < _BETTER * costs[self._best]:
            self._best = cheapest

    def _highest(self, name: str, at_s: float) -> float:
        """Return the highest value of a forecast among those made within ``stay_s`` before."""
        return max((one[name] for one in self._made.within(at_s - self._stay_s, at_s)
                    if name in one), default=0.0)

    def _prior(self, rate_per_s: float) -> Ratios:
        return Ratios(exp(-0.5 * self._span_s / MEMORY_S), _USUAL_SD,
                      _USUAL_JUDGEMENTS * max(rate_per_s, 1.0 / self._span_s))


def _name(window_s: float, fade_s: float) -> str:
    return f"last {window_s:g} s" if fade_s == 0.0 else (
        f"peak of {window_s:g} s that fades in {fade_s:g} s")
