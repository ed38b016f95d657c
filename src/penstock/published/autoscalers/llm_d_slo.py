"""llm-d's SLO-aware loop: latencies against their objectives, actuated by an HPA.

Source: llm-d guides/workload-autoscaling/README.slo-aware.md. The published loop takes the 90th
percentiles of a latency predictor; without one, as here, it takes the measured ones.
"""

from collections.abc import Mapping
from math import ceil, floor
from operator import sub
from typing import Any

from penstock.policy.scale.history import History, mean_since
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import (
    TPOT_BOUNDS_S,
    TTFT_BOUNDS_S,
    Observation,
    Totals,
    histogram_quantile,
)
from penstock.published.autoscalers.hpa import Behaviour, Policy, Rules
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted

UP = Rules(30.0, (Policy("Percent", 100.0, 60.0), Policy("Pods", 4.0, 60.0)))
DOWN = Rules(180.0, (Policy("Pods", 1.0, 120.0),))

PERIOD_S = 15.0
RATE_WINDOW_S = 60.0
SMOOTHING_S = 45.0
MOST_SIGNAL = 2.0
ABOVE, BELOW = 0.55, 0.40


def replicas_for(signal: float, num_provisioned: int, num_ready: int) -> int:
    """Return the replicas that the smoothed signal asks for. While replicas start, the signal
    counts in the share of those that are ready."""
    n = num_provisioned
    credit = num_ready / n if 0 < num_ready < n else 1.0
    if signal > ABOVE:
        return n + ceil(n * (signal * credit / ABOVE - 1.0))
    if signal < BELOW:
        return n - floor(n * (1.0 - signal / BELOW))
    return n


class _Group:
    def __init__(self, number: int, facts: GroupFacts, ttft_s: float | None,
                 tpot_s: float | None) -> None:
        self._number = number
        self._facts = facts
        self._slo = ((ttft_s, TTFT_BOUNDS_S), (tpot_s, TPOT_BOUNDS_S))
        self._totals = History[Totals](RATE_WINDOW_S)
        self._signals = History[float](SMOOTHING_S)
        self._behaviour = Behaviour(UP, DOWN)

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the wanted replicas and the smoothed signal."""
        group = seen.groups[self._number]
        if group.totals is None:
            return HOLD
        self._totals.add(now_s, group.totals)
        self._signals.add(now_s, min(self._raw(group.totals, now_s), MOST_SIGNAL))
        signal = mean_since(self._signals, now_s - SMOOTHING_S)
        assert signal is not None, "a value was just added"
        n = group.target
        desired = replicas_for(signal, n, group.num_ready)
        # The HPA's own tolerance on desired / present.
        if n and abs(desired / n - 1.0) <= UP.tolerance:
            desired = n
        limited = self._behaviour.limited(now_s, n, self._facts.bounded(desired), self._facts)
        return Wanted({self._number: limited}, {f"signal.{self._number}": signal})

    def _raw(self, totals: Totals, now_s: float) -> float:
        """Return the larger of both 90th percentiles over its objective, 0 without traffic."""
        before = self._totals.at(now_s - RATE_WINDOW_S)
        assert before is not None, "a value was just added"
        shares = [0.0]
        for (target_s, bounds), now, then in zip(
                self._slo, (totals.ttft, totals.tpot), (before[1].ttft, before[1].tpot),
                strict=True):
            p90 = histogram_quantile(0.9, bounds, tuple(map(sub, now, then)))
            if target_s is not None and p90 is not None:
                shares.append(p90 / target_s)
        return max(shares)


def tightest(context: ScalerContext, facts: GroupFacts) -> tuple[float | None, float | None]:
    """Return the tightest TTFT and ITL of the classes that a group serves, None without any."""
    slos = [one.slo for name, one in context.classes.items()
            if facts.service_classes is None or name in facts.service_classes]
    return (min((slo.ttft_s for slo in slos if slo.ttft_s is not None), default=None),
            min((slo.itl_s for slo in slos if slo.itl_s is not None), default=None))


def llm_d_slo(_settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build llm-d's SLO-aware loop on the tightest objectives of each group's classes."""
    return LawScaler([_Group(number, facts, *tightest(context, facts))
                      for number, facts in enumerate(context.groups)], PERIOD_S,
                     "P90 latency over its objective")
