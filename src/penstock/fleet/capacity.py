"""Rates that one replica sustains within its classes' objectives, by the analytic model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, log

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.speculation import turn_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.perf.queueing.replicas import (
    ClassTargets,
    EngineLimits,
    ReplicaQueue,
    RequestMix,
)
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.scale.protocol import Capacity, Load, ReplicaRate
from penstock.policy.schedule.options import SchedulerOptions

_NUM_ROWS = 1_000
_IDLE_PER_S = 1e-6
_LONGER = 0.1  # by which prompts are longer where the work of a prompt token is sought


def step_tokens(schedule: SchedulerOptions) -> int:
    """Return the most tokens that a step of this policy computes."""
    return schedule.chunk_tokens if schedule.chunking == "fixed" else schedule.max_step_tokens


def engine_limits(schedule: SchedulerOptions, num_kv_tokens: int) -> EngineLimits:
    """Return how an engine of that schedule forms steps and admits requests."""
    return EngineLimits(
        step_tokens=step_tokens(schedule), kv_tokens=num_kv_tokens,
        max_num_seqs=schedule.max_num_seqs, by_pace=schedule.chunking in ("solved", "grid"),
        by_deadline=schedule.order != "arrival", relegates=schedule.relegation != "never",
        slack_spend_fraction=(
            schedule.slack_spend_fraction if schedule.chunking == "solved" else 0.0))


def class_targets(service_class: ServiceClass) -> ClassTargets:
    """Return a service class's objective in the form of the analytic model."""
    slo = service_class.slo
    return ClassTargets(service_class.name, _or_inf(slo.ttft_s), _or_inf(slo.itl_s),
                        _or_inf(slo.e2e_s), slo.itl, slo.percentile)


def drafting_queue(group: ReplicaGroup, model: StepTimeModel, limits: EngineLimits,
                   mix: RequestMix, classes: Sequence[ServiceClass],
                   targets: Sequence[ClassTargets]) -> ReplicaQueue:
    """Return a group's replicas as a queue.

    Where they draft, a request has fewer decodes, by the tokens of a turn of its class, and a paced
    turn may take as much longer. Drafts of decodes are not taken off a step's tokens.
    """
    if group.speculation is None:
        return ReplicaQueue(model, limits, mix, targets)
    tokens = [turn_tokens(group.speculation, one.name) for one in classes]
    slower = [target if target.itl == "strict" else replace(target, itl_s=target.itl_s * each)
              for target, each in zip(targets, tokens, strict=True)]
    return ReplicaQueue(model, limits, replace(
        mix, turn_tokens=np.array([*tokens, 1.0])[mix.class_index]), slower)


def _or_inf(value: float | None) -> float:
    return inf if value is None else value


def replica_capacity(fleet: Fleet, group: ReplicaGroup,
                     believed: Callable[[ReplicaGroup], StepTimeModel],
                     targets_of: Callable[[ServiceClass], ClassTargets] = class_targets
                     ) -> Capacity:
    """Return the function that tells the rates of one of the group's replicas for given loads.

    The loads bring recent lengths by class. Arrivals are taken as Poisson, so the figure is a
    starting point: a scaler corrects it by what it observes. Requests that miss on an idle replica
    are no reason for more replicas, so as many more may miss. The rate is 0 where the model finds
    none.
    """
    model = believed(group)
    limits = engine_limits(fleet.schedule_of(group), kv_tokens(fleet, group))

    def rates(loads: Mapping[str, Load]) -> ReplicaRate:
        classes = [fleet.service_class(name) for name in loads]
        mix = _mix(list(loads.values()), limits.kv_tokens)
        targets = [targets_of(one) for one in classes]
        idle = drafting_queue(group, model, limits, mix, classes, targets).misses(_IDLE_PER_S)
        targets = [replace(target, percentile=max(0.0, target.percentile - 100.0 * missed))
                   for target, (missed, _) in zip(targets, idle, strict=True)]
        queue = drafting_queue(group, model, limits, mix, classes, targets)
        saturation_per_s = queue.saturation_per_s()
        longer = drafting_queue(group, model, limits, _longer(mix), classes,
                                targets).saturation_per_s()
        more_s = 1.0 / longer - 1.0 / saturation_per_s if min(longer, saturation_per_s) > 0 else 0.0
        square_s = 0.5 * model.slopes.work_s if model.slopes else 0.0
        squares = float((mix.prompt_tokens**2).mean())
        more_s -= square_s * ((1.0 + _LONGER) ** 2 - 1.0) * squares
        token_s = max(0.0, more_s / (_LONGER * float(mix.prompt_tokens.mean())))
        return ReplicaRate(queue.capacity_per_s()[0], saturation_per_s, token_s, square_s)

    return rates


def _longer(mix: RequestMix) -> RequestMix:
    """Return the same requests with longer prompts."""
    return replace(mix, prompt_tokens=(1.0 + _LONGER) * mix.prompt_tokens)


def _mix(loads: Sequence[Load], most_tokens: int) -> RequestMix:
    """Return requests in the shares of the loads, each class with its recent lengths in turn,
    chosen evenly where there are more."""
    total = sum(load.rate_per_s for load in loads)
    shares = [load.rate_per_s / total for load in loads]
    # Classes interleave evenly: row i is of the class that is furthest behind its share.
    due = np.concatenate([(np.arange(max(1, round(share * _NUM_ROWS))) + 0.5) / share
                          for share in shares if share > 0.0])
    counts = [max(1, round(share * _NUM_ROWS)) if share > 0.0 else 0 for share in shares]
    index = np.repeat(np.arange(len(loads)), counts)[np.argsort(due, kind="stable")]
    tokens = np.zeros((2, len(index)))
    for number, load in enumerate(loads):
        rows = np.flatnonzero(index == number)
        own = np.array(load.lengths, np.float64)
        step = max(1.0, len(own) / len(rows))
        tokens[:, rows] = own[(np.arange(len(rows)) * step).astype(np.int64) % len(own)].T
    prompt = np.minimum(tokens[0], most_tokens - 1.0)
    output = np.maximum(1.0, np.minimum(tokens[1], most_tokens - prompt))
    # Exponential gaps without chance: their quantiles, in an order that repeats only after all.
    ranks = (np.arange(len(index)) * 0.6180339887498949) % 1.0
    gaps = np.array([-log(1.0 - 0.9999 * rank) for rank in ranks])
    return RequestMix(prompt, output, index.astype(np.int64), gaps / gaps.mean())
