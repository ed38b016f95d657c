"""Penstock's scaler: forecast demand over the start time, in replicas that keep the objectives.

The number of replicas is (forecast rate x headroom x margin) / (rate of one replica within its
objectives). Arrivals count by the work of their prompts (``work``). The headroom is what past
errors of the forecast ask for (``forecast``). The rate of one replica comes from the analytic model
at the lengths of recent requests, and from the loads at which requests missed (``rates``). The
margin makes up for what is left (``margin``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from penstock.policy.route.roles import BOTH
from penstock.policy.scale.budget import BudgetSharing
from penstock.policy.scale.forecast import Forecast, RateForecast
from penstock.policy.scale.grown import SETTLE_S, Grown, Growth
from penstock.policy.scale.history import History
from penstock.policy.scale.margin import Margin
from penstock.policy.scale.mix import Mix, size
from penstock.policy.scale.outcomes import Outcomes
from penstock.policy.scale.protocol import (
    GroupFacts,
    ScalerContext,
    num_waiting,
    recent_loads,
)
from penstock.policy.scale.rates import ReplicaRates
from penstock.policy.scale.spending import Spending
from penstock.policy.scale.values import Alternative, Observation, ScalingDecision, SeenDemand

PERIOD_S = 10.0
SPARE = 1.05
"""Ratio of the wanted size over the greatest need of late, where the fleet shrinks."""

MOST_MEASURED = 5
"""Groups for which a decision computes the rate of a replica, about 5 ms each; others wait for the
next decision."""

_MORE = 1.01  # ratio of a size that is tried over the largest from which the fleet grew
_LATE_S = 60.0  # time whose rate says whether the ready replicas are busy
_BUSY = 0.6
"""Share of the expected rate of the ready replicas from which misses are taken to come from load:
below, more replicas would not prevent them."""


@dataclass(frozen=True, slots=True)
class PenstockSettings:
    """Settings of the scaler.

    ``margin`` is the first margin; it stays within ``least_margin`` and ``most_margin``. A share of
    misses of 30 % or more multiplies it by e within 3.3 times ``adapt_s``. Replicas are given up
    once fewer have sufficed for ``stay_s``, and for the start time at least: for so long, a replica
    that idles costs no more than one that is stopped and started again. The last replica goes once
    there was no request for ``idle_s``, and for the start time at least. At first, ``miss_share``
    of the allowed misses are spent on purpose.
    """

    margin: float = 1.0
    least_margin: float = 0.75
    most_margin: float = 2.0
    adapt_s: float = 900.0
    stay_s: float = 300.0
    idle_s: float = 120.0
    miss_share: float = 0.25


class Share(NamedTuple):
    """Arrivals per second, and the share of them that is served in time."""

    rate_per_s: float
    in_time: float


class _Wish(NamedTuple):
    """Wanted replicas by group, the reason and the figures that decided."""

    counts: tuple[int, ...]
    reason: str
    terms: dict[str, float]


class _Model:
    """Demand of one model and the groups that serve it, or that do so in one role."""

    def __init__(self, numbers: Sequence[int], context: ScalerContext,
                 settings: PenstockSettings) -> None:
        self.name = context.groups[numbers[0]].model
        self.numbers = tuple(numbers)
        self._settings = settings
        self._facts = [context.groups[number] for number in numbers]
        self._lead_s = max(one.start_s for one in self._facts)
        self._stay_s = max(self._lead_s, settings.stay_s)
        self._idle_s = max(self._lead_s, settings.idle_s)
        self._allowed = _allowed(context)
        self._spending = Spending(settings.miss_share)
        self._forecast = RateForecast(self._lead_s + 0.5 * PERIOD_S, self._stay_s)
        self._rates = ReplicaRates(self.numbers, context)
        self._margin = Margin(settings.margin, settings.least_margin, settings.most_margin,
                              settings.adapt_s)
        self._outcomes = Outcomes(context.classes)
        self._grown = Grown()
        self._mix = Mix(self._facts)
        self._needs = History[float](self._stay_s)
        self._asked_s = 0.0  # when a request was last here

    @property
    def measured_s(self) -> float:
        """Time at which the rates of replicas were last computed."""
        return self._rates.measured_s

    @property
    def _work_per_s(self) -> list[float]:
        """Rates of one replica of each group, counted by work as the forecast is."""
        return [self._rates.of_request * rate for rate in self._rates.per_s]

    @property
    def rates_per_s(self) -> list[float]:
        """Rates of one replica of each group, 1 where none is known."""
        return self._rates.per_s if self._rates.known else [1.0] * len(self.numbers)

    @property
    def _spent(self) -> float:
        """Share of the requests that may lie beyond the headroom."""
        return self._spending.value * self._allowed

    def wanted(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float, *,
               measures: bool) -> _Wish:
        """Return the wanted replicas. Rates of replicas are computed only where it
        ``measures``."""
        self._learn(seen, demand, now_s)
        self._forecast.add(now_s, self._rates.arrived(demand, now_s), self._spent,
                           sum(one.num_arrived - one.num_deferred for one in demand))
        present = tuple(seen.groups[number].target for number in self.numbers)
        loads, found = recent_loads(demand), self._forecast.best(now_s)
        if not loads or found is None:
            # Nothing is known of requests yet; held ones need a replica.
            needed = not sum(present) and any(one.num_held for one in demand)
            counts = self._mix.grown(present, [1.0] * len(present), 1.0) if needed else present
            return _Wish(counts, "no answers yet", {})
        self._rates.update(seen, demand, loads, now_s, measures=measures)
        if self._idle(present, demand, now_s):
            return _Wish((0,) * len(present), f"no request for {self._idle_s:g} s", {})
        if not self._rates.known:
            return _Wish(present, "no rate of a replica is known", {})
        return self._sized(seen, demand, found, present, now_s)

    def _learn(self, seen: Observation, demand: Sequence[SeenDemand], now_s: float) -> None:
        """Learn from the requests that ended, and that missed because of the load."""
        spent_share = self._spending.value
        misses = self._outcomes.add(now_s, demand, spent_share)
        if misses is not None and (misses.excess(spent_share) <= 0.0 or self._busy(seen, now_s)):
            self._margin.learn(misses, spent_share)
            self._spending.learn(misses)

    def _idle(self, present: tuple[int, ...], demand: Sequence[SeenDemand], now_s: float) -> bool:
        """Whether the last replica may go: for long, no request was here."""
        num_here = sum(one.num_arrived - one.num_ended for one in demand)
        came = self._forecast.rate_since(now_s - PERIOD_S, now_s)
        if num_here or came is None or came > 0.0:
            self._asked_s = now_s
        return (sum(present) <= 1 and not any(one.floor for one in self._facts)
                and now_s >= self._asked_s + self._idle_s)

    def _sized(self, seen: Observation, demand: Sequence[SeenDemand], found: Forecast,
               present: tuple[int, ...], now_s: float) -> _Wish:
        bound, asked = found.bound_per_s(self._spent), found.expected_per_s
        rate = bound * self._margin.value
        reason = f"forecast: {found.method}"
        burst = self._forecast.burst(now_s)
        # A burst has no margin of its own, except where experience allows less than the model.
        if burst.rate_per_s * min(1.0, self._margin.value) > rate:
            rate = burst.rate_per_s * min(1.0, self._margin.value)
            reason, asked = f"burst of the last {burst.window_s:g} s", burst.rate_per_s
        rates = self._work_per_s
        # One unit of need is the rate of the first group's replica, where the model finds one.
        unit = rates[0] or max(rates)
        worth = [each / unit for each in rates]
        need = (rate + self._backlog_per_s(seen, demand)) / unit
        self._needs.add(now_s, need)
        rate_since = self._forecast.rate_since(now_s - SETTLE_S, now_s) or found.expected_per_s
        grown = self._grown.largest(now_s, rate_since, unit)
        of_request = self._rates.of_request
        terms = {"rate_per_s": found.expected_per_s / of_request, "margin": self._margin.value,
                 "headroom": bound / max(found.expected_per_s, 1e-12),
                 "spent": self._spending.value,
                 "replica_per_s": unit / of_request, "share": self._rates.share,
                 "correction": self._rates.factor, "need": need}
        here = size(present, worth)
        if here < need - 1e-9:
            self._grown.add(now_s, Growth(here, unit, asked))
            return _Wish(self._mix.grown(present, worth, need), reason, terms)
        if self._needs.span_s < self._stay_s:  # what has sufficed all the time is not known
            return _Wish(present, reason, terms)
        # Fewer replicas have some to spare, and are more than those from which the fleet has grown.
        most = max(max(self._needs.since(now_s - self._stay_s)) * SPARE, grown * _MORE)
        fewer = self._mix.reduced(present, self._ready(seen), worth, most, now_s)
        if fewer is not None:
            return _Wish(fewer, f"fewer sufficed for {self._stay_s:g} s", terms)
        others = self._mix.exchanged(present, worth, most, now_s)
        if others is not None:
            return _Wish(others, "others are cheaper, their starts included", terms)
        return _Wish(present, reason, terms)

    def _backlog_per_s(self, seen: Observation, demand: Sequence[SeenDemand]) -> float:
        """Return the rate at which the requests that wait, at the gateway and at engines, would be
        served within a start time."""
        return self._rates.of_request * num_waiting(seen, demand, self.numbers) / self._lead_s

    def _ready(self, seen: Observation) -> list[int]:
        return [seen.groups[number].num_ready for number in self.numbers]

    def _busy(self, seen: Observation, now_s: float) -> bool:
        """Whether the load of the ready replicas may be what makes requests miss."""
        rate = self._forecast.rate_since(now_s - _LATE_S, now_s)
        rates = self._work_per_s
        return rate is None or not rates or rate >= _BUSY * size(self._ready(seen), rates)

    # -- prediction -----------------------------------------------------------------------------

    def predicted(self, counts: Sequence[int], now_s: float) -> Share | None:
        """Return the rate of arrivals and the share of them that these replicas serve in time, None
        before a rate is known. What the margin has learned counts as an error of the rates."""
        found, rates = self._forecast.best(now_s), self._work_per_s
        if found is None or not rates:
            return None
        learned = self._settings.margin / self._margin.value
        return Share(found.expected_per_s / self._rates.of_request,
                     found.covered(size(counts, rates) * learned))

    def set_aside(self, counts: Sequence[int], now_s: float) -> tuple[int, ...] | None:
        """Return the best of the other counts, None where there is none or no rate is known."""

        def share(other: Sequence[int]) -> float:
            found = self.predicted(other, now_s)
            return 0.0 if found is None else found.in_time

        return None if self.predicted(counts, now_s) is None else self._mix.next_best(counts, share)


def _part(group: GroupFacts) -> str:
    """Return the name of the part of the demand that a group serves: its model, and its role where
    it has one."""
    return group.model if group.role == BOTH else f"{group.model} {group.role}"


def _allowed(context: ScalerContext) -> float:
    """Return the smallest share of misses that a class allows."""
    return min((one.slo.allowed_misses for one in context.classes.values()), default=0.01)


class PenstockScaler:
    """Forecasts each model's demand over the start time, and orders the cheapest replicas that
    serve it within its objectives. Holds every number while metrics are missing."""

    period_s = PERIOD_S
    wakes = True

    def __init__(self, context: ScalerContext, settings: PenstockSettings) -> None:
        parts = dict.fromkeys(_part(group) for group in context.groups)
        self._models = {part: _Model([number for number, group in enumerate(context.groups)
                                      if _part(group) == part], context, settings)
                        for part in parts}
        self._one_model = len({group.model for group in context.groups}) == 1
        self._sharing = None if context.budget is None else BudgetSharing(context.budget,
                                                                          context.groups)

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Return the wanted number of replicas of each group."""
        targets = [group.target for group in seen.groups]
        if seen.demand is None:
            return ScalingDecision(tuple(targets), "the gateway's metrics are missing: no change")
        reasons, terms, changed = [], {}, None
        only, left = len(self._models) == 1, MOST_MEASURED
        for name, model in sorted(self._models.items(), key=lambda item: item[1].measured_s):
            demand = [one for one in seen.demand
                      if one.model == model.name or (self._one_model and not one.model)]
            wish = model.wanted(seen, demand, now_s, measures=left > 0)
            left -= len(model.numbers) if model.measured_s == now_s else 0
            if any(targets[number] != count
                   for number, count in zip(model.numbers, wish.counts, strict=True)):
                reasons.append(wish.reason if only else f"{name}: {wish.reason}")
                terms.update({key if only else f"{name}.{key}": value
                              for key, value in wish.terms.items()})
                changed = changed or name
            for number, count in zip(model.numbers, wish.counts, strict=True):
                targets[number] = count
        if self._sharing is not None:
            shared = self._sharing.shared(targets, [group.target for group in seen.groups],
                                          self._worth())
            if shared is not None:
                targets = list(shared.counts)
                reasons.append(shared.reason)
        attainment = other = None
        if changed is not None:
            attainment = self._attainment(targets, now_s)
            other = self._next_best(changed, targets, now_s)
        return ScalingDecision(tuple(targets), "; ".join(reasons) or "enough", terms, attainment,
                               other)

    def _worth(self) -> list[float]:
        """Return the rates of one replica of each group, 1 of groups of models without a rate."""
        found = {number: rate for model in self._models.values()
                 for number, rate in zip(model.numbers, model.rates_per_s, strict=True)}
        return [found[number] for number in range(len(found))]

    def _attainment(self, targets: Sequence[int], now_s: float) -> float | None:
        """Return the predicted share of all models' requests in time, None where a model has
        none."""
        shares: dict[str, Share] = {}
        for part in self._models.values():
            found = part.predicted([targets[number] for number in part.numbers], now_s)
            if found is None:
                return None
            # With roles, a request is in time where both of its replicas are.
            other = shares.get(part.name, Share(found.rate_per_s, 1.0))
            shares[part.name] = Share(found.rate_per_s, other.in_time * found.in_time)
        total = sum(one.rate_per_s for one in shares.values())
        return None if total <= 0.0 else sum(
            one.rate_per_s * one.in_time for one in shares.values()) / total

    def _next_best(self, name: str, targets: Sequence[int], now_s: float) -> Alternative | None:
        """Return the best of the other numbers, which differ at the named model's groups."""
        model = self._models[name]
        counts = model.set_aside([targets[number] for number in model.numbers], now_s)
        if counts is None:
            return None
        other = list(targets)
        for number, count in zip(model.numbers, counts, strict=True):
            other[number] = count
        if self._sharing is not None and not self._sharing.fits(other):
            return None
        return Alternative(tuple(other), self._attainment(other, now_s))


def penstock(settings: Mapping[str, Any], context: ScalerContext) -> PenstockScaler:
    """Build Penstock's scaler."""
    return PenstockScaler(context, PenstockSettings(**settings))
