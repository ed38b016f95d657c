"""NVIDIA Dynamo's planner: floors from forecast traffic, and single steps from present load.

A slow loop forecasts requests and lengths and sets the replicas that serve them within both
objectives. A fast loop moves each group by one, and never below. Both hold, each for a named
reason, while data are short or replicas start.

Source: ai-dynamo/dynamo components/src/dynamo/planner/core/throughput_scaling.py, load_scaling.py
and state_machine.py, mode ``agg``; config/defaults.py for the defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from penstock.core.errors import InputError
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.published.autoscalers.dynamo.budget import within_budget
from penstock.published.autoscalers.dynamo.engines import SeenEngines, workers_of
from penstock.published.autoscalers.dynamo.load import (
    LoadView,
    Move,
    Worker,
    by_objectives,
    by_thresholds,
)
from penstock.published.autoscalers.dynamo.predictors import Arima, Constant, Kalman, Predictor
from penstock.published.autoscalers.dynamo.traffic import Traffic
from penstock.published.autoscalers.laws import LawScaler, Wanted
from penstock.published.autoscalers.lengths import Lengths, RecentLengths
from penstock.published.autoscalers.llm_d_slo import tightest
from penstock.published.autoscalers.signals import of_model

TTFT_S, ITL_S = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class DynamoSettings:
    """The planner's settings under its names, times in seconds, the sensitivity as a share.

    ``optimization_target`` sla takes the objectives of the classes, or ``ttft_s`` and ``itl_s``;
    the other targets have static thresholds and no slow loop.
    """

    optimization_target: Literal["throughput", "latency", "sla"] = "throughput"
    enable_throughput_scaling: bool = True
    enable_load_scaling: bool = True
    throughput_adjustment_interval_s: float = 180.0
    load_adjustment_interval_s: float = 5.0
    load_scaling_down_sensitivity: float = 0.8
    ttft_s: float | None = None
    itl_s: float | None = None
    load_predictor: Literal["constant", "kalman", "arima"] = "constant"
    load_predictor_log1p: bool = False
    kalman_q_level: float = 1.0
    kalman_q_trend: float = 0.1
    kalman_r: float = 10.0
    max_gpu_budget: int | None = None

    def predictor(self) -> Predictor:
        """Return a new predictor."""
        if self.load_predictor == "kalman":
            return Kalman(self.kalman_q_level, self.kalman_q_trend, self.kalman_r,
                          use_log=self.load_predictor_log1p)
        if self.load_predictor == "arima":
            return Arima(use_log=self.load_predictor_log1p)
        return Constant()


class _Group:
    """Both loops of one group."""

    def __init__(self, number: int, context: ScalerContext, settings: DynamoSettings) -> None:
        facts = context.groups[number]
        ttft_s, itl_s = tightest(context, facts)
        self.number = number
        self.facts = facts
        self.least = min(max(1, facts.floor), facts.ceiling)
        self.engines = SeenEngines(facts, context.step_s[number] if context.step_s else None)
        self.bound = self.least  # of the slow loop
        self._settings = settings
        self._ttft_s = settings.ttft_s or ttft_s or TTFT_S
        self._itl_s = settings.itl_s or itl_s or ITL_S

    def throughput(self, demand_per_s: float, lengths: Lengths) -> tuple[str, dict[str, float]]:
        """Set the bound for a forecast demand."""
        engine = self.engines.engine()
        best = engine.best_rate(lengths, self._ttft_s, self._itl_s) if engine else None
        if best is None:
            return "model not ready", {}
        self.bound = self.facts.bounded(max(ceil(demand_per_s / best.per_s), self.least))
        return "lower bound set", {f"engine_per_s.{self.number}": best.per_s,
                                   f"bound.{self.number}": float(self.bound)}

    def load(self, group: SeenGroup, lengths: Lengths) -> Move:
        """Return the change that the present load asks for."""
        if group.target < self.least:
            return Move(self.least - group.target, "fewer than the least")
        if group.target != group.num_ready:
            return Move(0, "scaling in progress")
        workers = workers_of(group, self.facts.kv_total_tokens)
        if workers is None:
            return Move(0, "no load data")
        move = self._move(workers, lengths)
        floor = self.bound if self._slow else self.least
        wished = group.target + move.change
        change = self.facts.bounded(max(wished, floor)) - group.target
        if change == move.change:
            return move
        return Move(change, "scale up" if change > 0 else
                    "scale down capped by throughput" if move.change < 0 else "no change")

    def _move(self, workers: list[Worker], lengths: Lengths) -> Move:
        settings = self._settings
        if settings.optimization_target != "sla":
            return by_thresholds(workers, self.facts.kv_total_tokens,
                                 settings.optimization_target)
        engine = self.engines.engine()
        if engine is None or lengths.prompt_tokens <= 0.0:
            return Move(0, "insufficient data")
        return by_objectives(workers, LoadView(
            engine, lengths, self.engines.decode_tokens.value,
            self.engines.step_prefill_tokens.value, self._ttft_s, self._itl_s,
            settings.load_scaling_down_sensitivity))

    @property
    def _slow(self) -> bool:
        return self._settings.optimization_target == "sla" and (
            self._settings.enable_throughput_scaling)


class _Model:
    """Traffic of one model, divided among its groups as they answered in the last interval."""

    def __init__(self, groups: list[_Group], settings: DynamoSettings) -> None:
        self.groups = groups
        self._lengths = RecentLengths([one.number for one in groups])
        self._traffic = Traffic(settings.predictor)
        self._answered = [0] * len(groups)

    def observe(self, seen: Observation, now_s: float) -> Lengths:
        """Add what is seen, and return the lengths of recent requests."""
        demand = of_model(seen.demand or (), self.groups[0].facts.model)
        self._lengths.add(seen, demand, now_s)
        lengths = self._lengths.mean(now_s)
        for one in self.groups:
            one.engines.observe(seen.groups[one.number], lengths, now_s)
        return lengths

    def throughput(self, seen: Observation, hit_share: float, now_s: float
                   ) -> tuple[str, dict[str, float]]:
        """Forecast the next interval, and set the groups' bounds."""
        demand = of_model(seen.demand or (), self.groups[0].facts.model)
        forecast = self._traffic.next(demand, hit_share, now_s)
        if forecast is None:
            return "no traffic data", {}
        reasons, terms = [], {"forecast_per_s": forecast.per_s}
        for one, share in zip(self.groups, self._shares(), strict=True):
            reason, found = one.throughput(share * forecast.per_s, forecast.lengths)
            reasons.append(reason)
            terms.update(found)
        return "; ".join(dict.fromkeys(reasons)), terms

    def _shares(self) -> list[float]:
        now = [one.engines.num_first_tokens for one in self.groups]
        new = [count - then for count, then in zip(now, self._answered, strict=True)]
        self._answered = now
        total = sum(new)
        return [count / total if total else 1.0 / len(new) for count in new]


class _Planner:
    """The planner of all groups, which share one budget."""

    def __init__(self, context: ScalerContext, settings: DynamoSettings) -> None:
        models: dict[str, list[_Group]] = {}
        for number, facts in enumerate(context.groups):
            models.setdefault(facts.model, []).append(_Group(number, context, settings))
        self._models = [_Model(groups, settings) for groups in models.values()]
        self._facts: tuple[GroupFacts, ...] = context.groups
        self._settings = settings
        self._next_s: float | None = None  # of the slow loop

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return the planner's numbers of replicas."""
        if seen.demand is None:
            return Wanted({}, {}, "no traffic data")
        slow = self._slow_due(now_s)
        targets = {number: group.target for number, group in enumerate(seen.groups)}
        reasons: list[str] = []
        terms: dict[str, float] = {}
        for model in self._models:
            lengths = model.observe(seen, now_s)
            if slow:
                reason, found = model.throughput(seen, lengths.hit_share, now_s)
                reasons.append(reason)
                terms.update(found)
            for group in model.groups:
                move = self._move(group, seen, lengths, slow=slow)
                targets[group.number] += move.change
                if move.reason:
                    reasons.append(move.reason)
        return Wanted(self._budgeted(targets, seen), terms, "; ".join(dict.fromkeys(reasons)))

    def _slow_due(self, now_s: float) -> bool:
        settings = self._settings
        if settings.optimization_target != "sla" or not settings.enable_throughput_scaling:
            return False
        interval_s = settings.throughput_adjustment_interval_s
        if self._next_s is None:
            self._next_s = now_s + interval_s
        if now_s < self._next_s:
            return False
        self._next_s = now_s + interval_s
        return True

    def _move(self, group: _Group, seen: Observation, lengths: Lengths, *, slow: bool) -> Move:
        settings = self._settings
        present = seen.groups[group.number]
        if settings.optimization_target != "sla" or settings.enable_load_scaling:
            return group.load(present, lengths)
        # Without the fast loop, the slow one orders its numbers itself.
        return Move(group.bound - present.target if slow else 0, "")

    def _budgeted(self, targets: dict[int, int], seen: Observation) -> dict[int, int]:
        budget = self._settings.max_gpu_budget
        if budget is None or all(targets[number] == group.target
                                 for number, group in enumerate(seen.groups)):
            return targets
        found = within_budget([targets[number] for number in range(len(self._facts))],
                              [one.num_accelerators for one in self._facts],
                              [min(max(1, one.floor), one.ceiling) for one in self._facts], budget)
        return dict(enumerate(found))


def dynamo(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build Dynamo's planner."""
    found = DynamoSettings(**settings)
    if not found.enable_throughput_scaling and not found.enable_load_scaling:
        raise InputError("enable_load_scaling: is false, and so is enable_throughput_scaling; "
                         "expected one of both")
    return LawScaler([_Planner(context, found)], found.load_adjustment_interval_s,
                     f"target {found.optimization_target}")
