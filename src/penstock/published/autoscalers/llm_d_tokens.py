"""llm-d's token-aware scaling of aggregated engines: KEDA on the larger of two triggers.

Prefill wants the seconds of prompts in flight over the backlog that a replica may have, decode the
KV caches in use over the used share that a replica may have.

Source: llm-d/llm-d-autoscaling @947b3d6 benchmark/token-velocity-autoscaling, its summary and
optimized-baseline/launch-scaledobject.sh. Its decode query there is a mean over pods; the guide's
rule, as here, is the sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.policy.scale.protocol import GroupFacts, ScalerContext, StepSeconds
from penstock.policy.scale.values import Observation, SeenGroup
from penstock.published.autoscalers.hpa import DOWN, PERIOD_S, UP, Policy, Rules
from penstock.published.autoscalers.keda import Actuator, rounded
from penstock.published.autoscalers.laws import HOLD, LawScaler, Wanted
from penstock.published.autoscalers.lengths import Lengths, RecentLengths
from penstock.published.autoscalers.llm_d_slo import tightest
from penstock.published.autoscalers.signals import held, of_model

CALIBRATION_TOKENS = 8192
"""Prompt of the calibration, where the most tokens of a step are unknown."""


@dataclass(frozen=True, slots=True)
class TokenAwareSettings:
    """Backlog in seconds and used share of the KV cache that a replica may have, and KEDA's times.

    ``peak_prefill_per_s`` are the prompt tokens that one replica computes in a second; None takes
    the believed step times. With ``slo_share``, the backlog is that share of the TTFT objective
    less the time of the mean prompt. ``overshoot_guard`` gives starting replicas credit. With
    ``up_period_s`` or ``down_period_s``, at most one replica is added or removed in so many
    seconds.
    """

    backlog_s: float = 1.5
    kv_target: float = 0.8
    peak_prefill_per_s: float | None = None
    slo_share: float | None = None
    overshoot_guard: bool = True
    up_window_s: float = UP.window_s
    down_window_s: float = DOWN.window_s
    up_period_s: float = 0.0
    down_period_s: float = 0.0
    tolerance: float = 0.1
    cooldown_s: float = 30.0
    polling_s: float = 15.0


def guarded(demand: int, current: int, num_pending: int) -> int:
    """Return the replicas to ask for, where those that start count as capacity."""
    return demand if demand <= current else max(demand - num_pending, current)


def peak_prefill_per_s(facts: GroupFacts, step_s: StepSeconds) -> float:
    """Return the prompt tokens that one idle replica computes in a second, in one full step."""
    tokens = facts.step_tokens or CALIBRATION_TOKENS
    return tokens / step_s(StepFeatures(tokens, tokens * tokens / 2.0, 0, 0))


def _rules(window_s: float, period_s: float, usual: Rules, tolerance: float) -> Rules:
    policies = (Policy("Pods", 1.0, period_s),) if period_s > 0.0 else usual.policies
    return Rules(window_s, policies, tolerance=tolerance)


class _Group:
    def __init__(self, number: int, context: ScalerContext, settings: TokenAwareSettings) -> None:
        facts = context.groups[number]
        self._number = number
        self._facts = facts
        self._settings = settings
        self._ttft_s = tightest(context, facts)[0]
        self._lengths = RecentLengths((number,))
        self._per_s = settings.peak_prefill_per_s or peak_prefill_per_s(
            facts, context.step_s[number])
        self._actuator = Actuator(
            facts, _rules(settings.up_window_s, settings.up_period_s, UP, settings.tolerance),
            _rules(settings.down_window_s, settings.down_period_s, DOWN, settings.tolerance),
            settings.cooldown_s, settings.polling_s)

    def wanted(self, seen: Observation, now_s: float) -> Wanted:
        """Return KEDA's number of replicas, and both triggers' values."""
        group = seen.groups[self._number]
        loads = _loads(group)
        if loads is None or seen.demand is None:
            return HOLD
        self._lengths.add(seen, of_model(seen.demand, self._facts.model), now_s)
        lengths = self._lengths.mean(now_s)
        tokens, kv_used = loads
        backlog_s = tokens * (1.0 - lengths.hit_share) / self._per_s
        current, settings = group.target, self._settings
        demand = rounded(max(backlog_s / self._backlog_s(lengths), kv_used / settings.kv_target),
                         current, settings.tolerance)
        if settings.overshoot_guard:
            demand = guarded(demand, current, len(group.of("waiting", "starting")))
        active = tokens > 0 or kv_used > 0.0 or held(seen, self._facts) > 0
        ordered = self._actuator.ordered(now_s, current, demand, active=active)
        return Wanted({self._number: ordered}, {f"backlog_s.{self._number}": backlog_s,
                                                f"kv_used.{self._number}": kv_used})

    def _backlog_s(self, lengths: Lengths) -> float:
        """Return the backlog that one replica may have."""
        settings = self._settings
        if settings.slo_share is None or self._ttft_s is None:
            return settings.backlog_s
        prompt_s = lengths.prompt_tokens * (1.0 - lengths.hit_share) / self._per_s
        left_s = settings.slo_share * (self._ttft_s - prompt_s)
        # Where the prompt alone takes longer than the objective, no backlog is right.
        return left_s if left_s > 0.0 else settings.backlog_s


def _loads(group: SeenGroup) -> tuple[int, float] | None:
    """Return the tokens in flight and the KV caches in use of the ready replicas, whose sums know
    no replica that has ended. None where any are missing."""
    tokens, kv_used = 0, 0.0
    for one in group.of("ready"):
        if one.gauges is None or one.inflight_tokens is None:
            return None
        tokens += one.inflight_tokens
        kv_used += one.gauges.kv_used_share
    return tokens, kv_used


def llm_d_tokens(settings: Mapping[str, Any], context: ScalerContext) -> LawScaler:
    """Build llm-d's token-aware scaling."""
    found = TokenAwareSettings(**settings)
    if found.peak_prefill_per_s is None and not context.step_s:
        raise InputError("peak_prefill_per_s: is left out, and no step times are believed; "
                         "expected the prompt tokens that one replica computes in a second")
    return LawScaler([_Group(number, context, found) for number in range(len(context.groups))],
                     PERIOD_S, "larger of prefill backlog and KV use")
