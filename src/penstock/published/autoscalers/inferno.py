"""Inferno's control loop: collect, tune, optimise, actuate.

Source: llm-inferno/control-loop with its Prometheus backend, model-tuner and optimizer-light. One
group is one server on an accelerator of its own; its batch is pinned and its number of replicas
actuated. Arrivals are completions of the last minute, as published, so an overload hides itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.perf.queueing.parameters import IterationTimes
from penstock.policy.scale.history import History
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.policy.scale.values import Observation, ScalingDecision, SeenGroup, Totals
from penstock.published.inferno.solve import InfernoPlan, settings_of, solve
from penstock.published.inferno.tuner.tuner import Tuner
from penstock.published.inferno.tuner.values import FilterConfig, OperatingPoint, TunerSettings
from penstock.published.inferno.values import (
    LOWEST_PRIORITY,
    Accelerator,
    Allocation,
    Load,
    OptimizerOptions,
    Profile,
    Server,
    ServiceClass,
    System,
    Targets,
)

PERIOD_S = 60.0
WINDOW_S = 60.0
WARM_UP_CYCLES = 10
MAX_BATCH = 256

OPTIONS = OptimizerOptions(saturation_policy="PriorityExhaustive")
"""Options of the published set of data for vLLM."""


@dataclass(frozen=True, slots=True)
class Collected:
    """Load of a group over the last minute, and its mean latencies in ms, 0 without any."""

    load: Load
    ttft_ms: float = 0.0
    itl_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Engine:
    """Pinned batch and places in the queue of a replica."""

    max_batch: int
    max_queue: int


class Inferno:
    """Orders the replicas that Inferno's optimizer gives for learned step times.

    While the tuner warms up, nothing changes, for ``warm_up_cycles`` cycles at most (0: without
    end). A tuner that learns nothing is only mentioned in the reason. A cycle whose optimizer fails
    changes nothing; with ``partial``, servers without an allocation get the floor instead.
    """

    period_s = PERIOD_S
    wakes = False

    def __init__(self, context: ScalerContext, engine: Engine, times: IterationTimes,
                 tuner: TunerSettings | None, warm_up_cycles: int, partial: bool) -> None:
        self._context = context
        self._engine = engine
        self._times = [times] * len(context.groups)
        self._tuners = [] if tuner is None else [Tuner(tuner) for _ in context.groups]
        self._warm_up_cycles = warm_up_cycles
        self._partial = partial
        self._num_warming = 0
        self._totals = [History[Totals](WINDOW_S) for _ in context.groups]

    def decide(self, seen: Observation, now_s: float) -> ScalingDecision:
        """Run one cycle and return its numbers of replicas."""
        targets = tuple(group.target for group in seen.groups)
        collected = self._collect(seen, now_s)
        if collected is None:
            return ScalingDecision(targets, "no minute of metrics: cycle skipped")
        warnings = self._tune(seen, collected)
        if self._held_back():
            return ScalingDecision(targets, "; ".join(("tuner warms up", *warnings)),
                                   self._terms(collected))
        plan = solve(system_of(self._context, self._engine, self._times, seen.groups, collected),
                     settings_of(OPTIONS))
        reason = "least cost within the targets at learned step times"
        if plan.upstream_error is not None:
            reason = plan.upstream_error
        if plan.upstream_error is None or self._partial:
            targets = actuated(plan, self._context.groups)
        return ScalingDecision(targets, "; ".join((reason, *warnings)), self._terms(collected))

    def _collect(self, seen: Observation, now_s: float) -> list[Collected] | None:
        """Return the last minute of every group, None where metrics are missing.

        The published timer fires after its first period, so a first call only counts.
        """
        totals = [group.totals for group in seen.groups]
        known = [one for one in totals if one is not None and one.ttft_sum_s is not None]
        if len(known) < len(totals):
            return None
        found = []
        for now, history in zip(known, self._totals, strict=True):
            history.add(now_s, now)
            before_s, before = history.at(now_s - WINDOW_S) or (now_s, now)
            found.append(collect(before, now, now_s - before_s))
        return found if self._totals[0].span_s > 0.0 else None

    def _tune(self, seen: Observation, collected: Sequence[Collected]) -> list[str]:
        """Let every group's tuner learn from its mean replica; return what it warns of."""
        warnings = []
        for number, (tuner, group, one) in enumerate(zip(
                self._tuners, seen.groups, collected, strict=False)):
            if group.num_ready and one.load.arrival_per_min > 0.0:
                tuner.tune([replica_point(one, group.num_ready, self._engine)])
                if tuner.warning is not None:
                    warnings.append(f"group {number}: {tuner.warning}")
        return warnings

    def _held_back(self) -> bool:
        """Return whether the warm-up gate holds the cycle back; else take what was learned."""
        if any(tuner.warming_up for tuner in self._tuners):
            self._num_warming += 1
            return not self._warm_up_cycles or self._num_warming < self._warm_up_cycles
        self._num_warming = 0
        for number, tuner in enumerate(self._tuners):
            if tuner.learned is not None:
                self._times[number] = tuner.learned.times
        return False

    def _terms(self, collected: Sequence[Collected]) -> dict[str, float]:
        terms: dict[str, float] = {}
        for number, (one, times) in enumerate(zip(collected, self._times, strict=True)):
            terms |= {f"rate_per_min.{number}": one.load.arrival_per_min,
                      f"alpha_ms.{number}": times.alpha_ms, f"beta_ms.{number}": times.beta_ms,
                      f"gamma_ms.{number}": times.gamma_ms}
        return terms


def collect(before: Totals, now: Totals, span_s: float) -> Collected:
    """Return load and mean latencies between two observations; completions are the arrivals."""
    num_finished = now.num_finished - before.num_finished
    if not num_finished:
        return Collected(Load())
    rate_per_min = 60.0 * num_finished / span_s
    prompt = (now.prompt_tokens - before.prompt_tokens) // num_finished
    answer = (now.output_tokens - before.output_tokens) // num_finished
    return Collected(Load(rate_per_min, prompt, answer, rate_per_min),
                     _mean_ms(before.ttft_sum_s, now.ttft_sum_s, sum(now.ttft) - sum(before.ttft)),
                     _mean_ms(before.tpot_sum_s, now.tpot_sum_s, sum(now.tpot) - sum(before.tpot)))


def _mean_ms(before_s: float | None, now_s: float | None, count: int) -> float:
    if before_s is None or now_s is None or not count:
        return 0.0
    return 1000.0 * (now_s - before_s) / count


def replica_point(one: Collected, num_ready: int, engine: Engine) -> OperatingPoint:
    """Return the mean replica of a group as an observation of the tuner."""
    load = one.load
    return OperatingPoint(load.arrival_per_min / num_ready, engine.max_batch, engine.max_queue,
                          load.input_tokens, load.output_tokens, one.ttft_ms, one.itl_ms)


def system_of(context: ScalerContext, engine: Engine, times: Sequence[IterationTimes],
              seen: Sequence[SeenGroup], collected: Sequence[Collected]) -> System:
    """Return the groups as a bundle of the optimizer.

    Every group has an accelerator, a pool of its ceiling, a class with the tightest targets of its
    service classes, and a server. Targets hold for means, as published.
    """
    names = [f"group-{number}" for number in range(len(context.groups))]
    accelerators, profiles, classes, servers = {}, {}, {}, {}
    for number, (name, facts) in enumerate(zip(names, context.groups, strict=True)):
        cents = 100.0 * facts.cost_per_hour
        target = seen[number].target
        accelerators[name] = Accelerator(name, name, 1, cents)
        profiles[facts.model, name] = Profile(facts.model, name, 1, engine.max_batch, 0,
                                              times[number])
        classes[name] = _service_class(name, context, facts)
        current = Allocation(name, target, engine.max_batch, cents * target)
        servers[name] = Server(name, name, facts.model, collected[number].load, current, True,
                               facts.floor, engine.max_batch, engine.max_queue)
    return System("v2", accelerators, profiles, classes, servers,
                  {name: facts.ceiling for name, facts in zip(names, context.groups, strict=True)},
                  OPTIONS)


def _service_class(name: str, context: ScalerContext, facts: GroupFacts) -> ServiceClass:
    own = [one for each, one in context.classes.items()
           if facts.service_classes is None or each in facts.service_classes]
    ttft_s, itl_s = (
        min((value for value in values if value is not None), default=None)
        for values in ([one.slo.ttft_s for one in own], [one.slo.itl_s for one in own]))
    priority = min((one.priority for one in own), default=LOWEST_PRIORITY)
    targets = Targets(None if ttft_s is None else 1000.0 * ttft_s,
                      None if itl_s is None else 1000.0 * itl_s)
    return ServiceClass(name, min(max(priority, 1), LOWEST_PRIORITY), {facts.model: targets})


def actuated(plan: InfernoPlan, groups: Sequence[GroupFacts]) -> tuple[int, ...]:
    """Return the replicas of every group: 0 without an allocation, within the group's bounds."""
    allocations = plan.allocations
    return tuple(facts.bounded(allocations.get(f"group-{number}", Allocation()).num_replicas)
                 for number, facts in enumerate(groups))


def inferno(settings: Mapping[str, Any], context: ScalerContext) -> Inferno:
    """Build the loop. ``alpha_ms``, ``beta_ms`` and ``gamma_ms`` are the static parameters, which
    are the tuner's seed, too."""
    alpha, beta, gamma = FilterConfig().init_state
    state = (settings.get("alpha_ms", alpha), settings.get("beta_ms", beta),
             settings.get("gamma_ms", gamma))
    return Inferno(context,
                   Engine(settings.get("max_batch", MAX_BATCH), settings.get("max_queue", 0)),
                   IterationTimes(*state), _tuner(settings, state),
                   settings.get("warm_up_cycles", WARM_UP_CYCLES), settings.get("partial", False))


def _tuner(settings: Mapping[str, Any], seed: tuple[float, float, float]) -> TunerSettings | None:
    mode = settings.get("tuner", "ekf")
    return None if mode == "none" else TunerSettings(mode=mode,
                                                     filter=FilterConfig(init_state=seed))
