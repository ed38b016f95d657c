"""Penstock's scaler: forecast demand over the start time, in replicas that keep the objectives.

The number of replicas is (forecast rate x margin) / (rate of one replica within its objectives).
The rate of one replica comes from the analytic model at the lengths of recent requests. The margin
makes up for errors of both. It rises with each request that misses its objective and falls while
fewer miss than may, as adaptive conformal inference adapts its level (Gibbs and Candes 2021,
section 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any, NamedTuple

from penstock.policy.scale.cheapest import cheapest_counts
from penstock.policy.scale.correction import RateCorrection, Served
from penstock.policy.scale.failures import Failures, Steady
from penstock.policy.scale.forecast import WINDOWS_S, RateForecast
from penstock.policy.scale.history import History
from penstock.policy.scale.prediction import covered_share, next_best
from penstock.policy.scale.protocol import Load, ScalerContext
from penstock.policy.scale.values import Alternative, Observation, ScalingDecision, SeenDemand

PERIOD_S = 10.0
BURST_S = 20.0
_BURST_SIGMAS = 3.0
FORGET_S = 3 * 3600.0
"""Time constant with which a margin above the first one falls back to the first."""

_MOST_EXCESS = 0.3  # share of misses above the allowed ones

MEASURE_S = 60.0
"""Time between two computations of the replicas' rates."""

SHARE_S = 3600.0
"""Time over which the share of a replica's saturation that is in time is averaged."""

_SMOOTHING = 0.5  # weight of a new rate: lengths of a few thousand requests vary by chance
JUDGED_S = 60.0
STEADY_S = 120.0
"""Time for which a load and a size must not have changed, so that misses tell of the size."""

SPARE = 1.05
"""Ratio of the wanted size over the greatest need of late, where the fleet shrinks."""

_MORE = 1.01  # ratio of a size that is tried over the largest that failed
_STEADY = 0.1
_FEWEST_ENDED = 100
_LEAST_WAIT_S, _USUAL_TTFT_S = 0.5, 2.0

_BUSY = 0.6
"""Share of the expected rate of the ready replicas from which misses are taken to come from load:
below, more replicas would not prevent them."""


@dataclass(frozen=True, slots=True)
class PenstockSettings:
    """Settings of the scaler.

    ``margin`` is the first margin; it stays within ``least_margin`` and ``most_margin``. A share of
    misses of 30 % or more multiplies it by e within 3.3 times ``adapt_s``. Replicas are given up
    once fewer have sufficed for ``stay_s``, and for the start time at least: for so long, a replica
    that idles costs no more than one that is stopped and started again. ``miss_share`` of the
    allowed misses are spent on purpose.
    """

    margin: float = 1.25
    least_margin: float = 0.75
    most_margin: float = 2.0
    adapt_s: float = 900.0
    stay_s: float = 300.0
    miss_share: float = 0.3


class Share(NamedTuple):
    """Arrivals per second, and the share of them that is served in time."""

    rate_per_s: float
    in_time: float


class _Model:
    """Demand of one model and the groups that serve it."""

    def __init__(self, numbers: Sequence[int], context: ScalerContext,
                 settings: PenstockSettings) -> None:
        self.numbers = tuple(numbers)
        self.margin = settings.margin
        self._context = context
        self._settings = settings
        facts = [context.groups[number] for number in numbers]
        self._lead_s = max(one.start_s for one in facts)
        self._forecast = RateForecast(self._lead_s + 0.5 * PERIOD_S)
        self._stay_s = max(self._lead_s, settings.stay_s)
        self._needs = History[float](self._stay_s)
        self._ended = History[tuple[tuple[int, int], ...]](JUDGED_S)
        self._sizes = History[float](STEADY_S)
        self._failures = Failures()
        self._measured_s = -MEASURE_S
        self._num_measured = 0
        self._saturations: list[float] = []
        self._shares: list[float] = []
        self._rates: list[float] = []
        self._correction = RateCorrection(_wait_s(context))

    def wanted(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float
               ) -> tuple[tuple[int, ...], str, dict[str, float]]:
        """Return the wanted replicas by group, with the reason and the figures that decided."""
        arrived = sum(one.num_arrived for one in demand)
        self._forecast.add(now_s, arrived)
        self._learn(seen, demand, now_s)
        present = tuple(seen.groups[number].target for number in self.numbers)
        loads = self._loads(demand)
        found = self._forecast.best(now_s)
        if not loads or found is None:
            # Nothing is known of requests yet; held ones need a replica.
            needed = not sum(present) and any(one.num_held for one in demand)
            counts = self._counts([1.0] * len(self.numbers), 1.0) if needed else present
            return counts, "no answers yet", {}
        self._measure(loads, now_s)
        self._correct(seen, demand, now_s)
        if max(self._rates) <= 0.0:
            return present, "no rate of a replica is known", {}
        rate, reason = found.rate_per_s * self.margin, f"forecast: {found.method}"
        # Where experience allows less than the model, a burst needs less, too.
        burst = self._burst_per_s(now_s) * min(1.0, self.margin)
        if burst > rate:
            rate, reason = burst, f"burst of the last {BURST_S:g} s"
        rate += self._backlog_per_s(seen, demand)
        # One unit of need is the rate of the first group's replica, where the model finds one.
        unit = (self._rates[0] or max(self._rates)) * self._correction.factor
        need = rate / unit
        self._needs.add(now_s, need)
        highest = max(self._needs.since(now_s - self._stay_s))
        worth = [each * self._correction.factor / unit for each in self._rates]
        have = sum(count * each for count, each in zip(present, worth, strict=True))
        self._remember(seen, demand, worth, unit, now_s)
        if have < need - 1e-9:
            counts = self._counts(worth, need)
        else:
            # Fewer only where fewer have sufficed all the time, which must be known, with some to
            # spare, and where they have not failed under such a load.
            known = self._needs.span_s >= self._stay_s
            failed = self._failures.largest(now_s, found.rate_per_s, unit)
            enough = max(highest * SPARE, failed * _MORE)
            counts = self._counts(worth, enough) if known else present
            if sum(count * each for count, each in zip(counts, worth, strict=True)) >= have - 1e-9:
                counts = present
            else:
                reason = f"fewer sufficed for {self._stay_s:g} s"
        return counts, reason, {
            "rate_per_s": found.rate_per_s, "margin": self.margin, "replica_per_s": unit,
            "correction": self._correction.factor, "need": need, "spread": found.spread}

    # -- demand ---------------------------------------------------------------------------------

    def _burst_per_s(self, now_s: float) -> float:
        """Return the rate of the last seconds less what chance alone may add to it."""
        rate: float | None = self._forecast.rate_since(now_s - BURST_S, now_s)
        if rate is None:
            return 0.0
        return max(0.0, rate - _BURST_SIGMAS * sqrt(rate / BURST_S))

    def _backlog_per_s(self, seen: Observation, demand: Sequence[SeenDemand]) -> float:
        """Return the rate at which the requests that wait, at the gateway and at engines, would be
        served within a start time."""
        waiting = sum(one.gauges.num_waiting for number in self.numbers
                      for one in seen.groups[number].of("ready") if one.gauges is not None)
        return (waiting + sum(one.num_held for one in demand)) / self._lead_s

    def _loads(self, demand: Sequence[SeenDemand]) -> dict[str, Load]:
        """Return the recent loads by class, without classes of which no answer is known."""
        total = sum(one.num_arrived for one in demand)
        return {one.service_class: Load(one.num_arrived / total, one.recent)
                for one in demand if one.recent and one.num_arrived}

    # -- capacity -------------------------------------------------------------------------------

    def _measure(self, loads: Mapping[str, Load], now_s: float) -> None:
        """Compute the rates of one replica of each group for recent lengths, now and then.

        The rate at which a queue grows without end changes with the mean work of a request, so it
        is followed at once. The share of it that is in time depends on the longest few prompts,
        which vary by chance, so it is a mean over a long time.
        """
        if self._rates and now_s < self._measured_s + MEASURE_S:
            return
        new = [self._context.capacity[number](loads) for number in self.numbers]
        shares = [one.in_time_per_s / one.saturation_per_s if one.saturation_per_s > 0.0 else 0.0
                  for one in new]
        weight = max(MEASURE_S / SHARE_S, 1.0 / (self._num_measured + 1))
        self._shares = [old + weight * (share - old)
                        for old, share in zip(self._shares or shares, shares, strict=True)]
        # Costs of a request add up, so the means are of costs.
        saturations = [1.0 / ((1.0 - _SMOOTHING) / old + _SMOOTHING / one.saturation_per_s)
                       if old > 0.0 and one.saturation_per_s > 0.0 else one.saturation_per_s
                       for old, one in zip(self._saturations or [0.0] * len(new), new,
                                           strict=True)]
        self._saturations = saturations
        self._rates = [share * one for share, one in zip(self._shares, saturations, strict=True)]
        self._num_measured += 1
        self._measured_s = now_s

    def _correct(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Compare what the ready replicas finish with their believed rates. A missing gauge counts
        as a replica without waiting requests."""
        ready = [(number, one) for number in self.numbers
                 for one in seen.groups[number].of("ready")]
        believed = dict(zip(self.numbers, self._saturations, strict=True))
        gauges = [one.gauges for _, one in ready if one.gauges is not None]
        self._correction.add(now_s, Served(
            sum(one.num_finished for one in demand), len(ready),
            sum(one.num_running for one in gauges),
            # A queue at one replica alone says nothing about the others.
            len(ready) * min((one.num_waiting for one in gauges), default=0),
            sum(believed[number] for number, _ in ready)))

    def _busy(self, seen: Observation, now_s: float) -> bool:
        """Whether the load of the ready replicas may be what makes requests miss."""
        rate = self._forecast.rate_since(now_s - WINDOWS_S[1], now_s)
        if rate is None or not self._rates:
            return True
        ready = sum(seen.groups[number].num_ready * each
                    for number, each in zip(self.numbers, self._rates, strict=True))
        return rate >= _BUSY * ready * self._correction.factor

    def _learn(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Adapt the margin to the misses since the last decision."""
        ends = tuple((one.num_finished + one.num_lost, one.num_met) for one in demand)
        before = self._ended.at(now_s)
        self._ended.add(now_s, ends)
        if before is None or len(before[1]) != len(ends) or now_s <= before[0]:
            return
        excess = max((self._excess(one, now, then) for one, now, then in zip(
            demand, ends, before[1], strict=True) if now[0] > then[0]), default=0.0)
        if excess > 0.0 and not self._busy(seen, now_s):
            return
        settings = self._settings
        elapsed_s = now_s - before[0]
        # An outage says that something is wrong, not how much is: its size counts up to a limit,
        # and a high margin is forgotten.
        step = min(excess, _MOST_EXCESS) * elapsed_s / settings.adapt_s
        if self.margin > settings.margin:
            step -= log(self.margin / settings.margin) * elapsed_s / FORGET_S
        self.margin = min(max(self.margin * exp(step), settings.least_margin),
                          settings.most_margin)

    def _remember(self, seen: Observation, demand: Sequence[SeenDemand], worth: Sequence[float],
                  unit: float, now_s: float) -> None:
        """Remember the size of a fleet that fails under a load that is steady."""
        size = sum(seen.groups[number].num_ready * each
                   for number, each in zip(self.numbers, worth, strict=True))
        self._sizes.add(now_s, size)
        sizes = self._sizes.since(now_s - STEADY_S)
        rate = self._forecast.rate_since(now_s - STEADY_S, now_s)
        late = self._forecast.rate_since(now_s - WINDOWS_S[1], now_s)
        if (rate is None or late is None or size <= 0.0 or self._sizes.span_s < STEADY_S
                or max(sizes) - min(sizes) > _STEADY * size
                or abs(late - rate) > _STEADY * rate or not self._fails(demand, now_s)):
            return
        self._failures.add(now_s, Steady(rate, size, unit))

    def _fails(self, demand: Sequence[SeenDemand], now_s: float) -> bool:
        """Whether a class missed more than it may, for a minute."""
        then = self._ended.at(now_s - JUDGED_S)
        if then is None or len(then[1]) != len(demand):
            return False
        for one, (num_ended, num_met) in zip(demand, then[1], strict=True):
            ended = one.num_finished + one.num_lost - num_ended
            allowed = 1.0 - self._context.classes[one.service_class].slo.percentile / 100.0
            if ended >= _FEWEST_ENDED and ended - (one.num_met - num_met) > 2.0 * allowed * ended:
                return True
        return False

    def _excess(self, one: SeenDemand, now: tuple[int, int], then: tuple[int, int]) -> float:
        """Return the share of a class's requests that missed since then, less the share that
        may."""
        missed = 1.0 - (now[1] - then[1]) / (now[0] - then[0])
        percentile = self._context.classes[one.service_class].slo.percentile
        return missed - self._settings.miss_share * (1.0 - percentile / 100.0)

    # -- prediction -----------------------------------------------------------------------------

    def predicted(self, counts: Sequence[int], now_s: float) -> Share | None:
        """Return the rate of arrivals and the share of them that these replicas serve in time, None
        before a rate is known. What the margin has learned counts as an error of the rates."""
        found = self._forecast.best(now_s)
        if found is None or not self._rates:
            return None
        learned = self._settings.margin / self.margin
        in_time_per_s = sum(count * each for count, each in zip(counts, self._rates, strict=True))
        return Share(found.rate_per_s, covered_share(
            found.rate_per_s, found.spread, in_time_per_s * self._correction.factor * learned))

    def set_aside(self, counts: Sequence[int], now_s: float) -> tuple[int, ...] | None:
        """Return the best of the other counts, None where there is none or no rate is known."""
        facts = [self._context.groups[number] for number in self.numbers]

        def share(other: Sequence[int]) -> float:
            found = self.predicted(other, now_s)
            return 0.0 if found is None else found.in_time

        return None if self.predicted(counts, now_s) is None else next_best(
            counts, [(one.floor, one.ceiling) for one in facts],
            [one.cost_per_hour for one in facts], share)

    def _counts(self, worth: Sequence[float], need: float) -> tuple[int, ...]:
        facts = [self._context.groups[number] for number in self.numbers]
        return cheapest_counts(need, worth, [one.cost_per_hour for one in facts],
                               [(one.floor, one.ceiling) for one in facts])


def _wait_s(context: ScalerContext) -> float:
    """Return the wait from which replicas are taken to be saturated: half of the tightest TTFT."""
    ttfts = [one.slo.ttft_s for one in context.classes.values() if one.slo.ttft_s is not None]
    return max(_LEAST_WAIT_S, 0.5 * min(ttfts, default=_USUAL_TTFT_S))


class PenstockScaler:
    """Forecasts each model's demand over the start time, and orders the cheapest replicas that
    serve it within its objectives. Holds every number while metrics are missing."""

    period_s = PERIOD_S
    wakes = True

    def __init__(self, context: ScalerContext, settings: PenstockSettings) -> None:
        names = dict.fromkeys(group.model for group in context.groups)
        self._models = {name: _Model([number for number, group in enumerate(context.groups)
                                      if group.model == name], context, settings)
                        for name in names}

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the wanted number of replicas of each group."""
        targets = [group.target for group in seen.groups]
        if seen.demand is None:
            return ScalingDecision(tuple(targets), "the gateway's metrics are missing: no change")
        reasons, terms, changed = [], {}, None
        only = len(self._models) == 1
        for name, model in self._models.items():
            demand = [one for one in seen.demand if one.model == name or (only and not one.model)]
            counts, reason, figures = model.wanted(seen, demand, now_s)
            if any(targets[number] != count
                   for number, count in zip(model.numbers, counts, strict=True)):
                reasons.append(reason if only else f"{name}: {reason}")
                terms.update({key if only else f"{name}.{key}": value
                              for key, value in figures.items()})
                changed = changed or name
            for number, count in zip(model.numbers, counts, strict=True):
                targets[number] = count
        attainment = other = None
        if changed is not None:
            attainment = self._attainment(targets, now_s)
            other = self._next_best(changed, targets, now_s)
        return ScalingDecision(tuple(targets), "; ".join(reasons) or "enough", terms, attainment,
                               other)

    def _attainment(self, targets: Sequence[int], now_s: float) -> float | None:
        """Return the predicted share of all models' requests in time, None where a model has
        none."""
        found = [model.predicted([targets[number] for number in model.numbers], now_s)
                 for model in self._models.values()]
        known = [one for one in found if one is not None]
        total = sum(one.rate_per_s for one in known)
        if len(known) < len(found) or total <= 0.0:
            return None
        return sum(one.rate_per_s * one.in_time for one in known) / total

    def _next_best(self, name: str, targets: Sequence[int], now_s: float) -> Alternative | None:
        """Return the best of the other numbers, which differ at the named model's groups."""
        model = self._models[name]
        counts = model.set_aside([targets[number] for number in model.numbers], now_s)
        if counts is None:
            return None
        other = list(targets)
        for number, count in zip(model.numbers, counts, strict=True):
            other[number] = count
        return Alternative(tuple(other), self._attainment(other, now_s))


def penstock(settings: Mapping[str, Any], context: ScalerContext) -> PenstockScaler:
    """Build Penstock's scaler."""
    return PenstockScaler(context, PenstockSettings(**settings))
