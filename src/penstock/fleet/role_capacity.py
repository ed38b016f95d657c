"""Rates that one replica with a role sustains within its classes' objectives.

Both roles are counted in requests of the whole demand, so that one forecast sizes both.

- Prompts: the analytic model of a replica whose requests end with their first token tells at which
  rate its queue grows; the share of it at which prompts are in time follows from the tail of waits.
- Answers: the number of decodes on replicas with room for all is Poisson, whatever the lengths of
  answers (M/G/inf; Kleinrock, Queueing Systems 1, 3.4). A replica carries the rate at which this
  number exceeds the largest batch in time as rarely as requests may miss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from penstock.core.slo import ServiceClass, Slo
from penstock.fleet.capacity import class_targets, replica_capacity
from penstock.fleet.disaggregation import least_tokens
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.speculation import turn_tokens
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.metrics.definitions import FloatColumn
from penstock.perf.queueing.replicas import ClassTargets
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.policy.route.roles import BOTH, PREFILL
from penstock.policy.scale.protocol import Capacity, Load, ReplicaRate

_MOST_PERCENTILE = 99.99
_HALVINGS = 30
_NONE = ReplicaRate(0.0, 0.0)


def capacity_of(fleet: Fleet, group: ReplicaGroup,
                believed: Callable[[ReplicaGroup], StepTimeModel]) -> Capacity:
    """Return the function that tells the rates of one of a group's replicas for given loads."""
    if group.role == BOTH:
        return replica_capacity(fleet, group, believed)
    least = max((least_tokens(fleet, other) for other in fleet.replicas
                 if other.model.name == group.model.name), default=0)
    if group.role == PREFILL:
        return _of_prompts(fleet, believed(group),
                           replica_capacity(fleet, group, believed, _without_gaps), least)
    return _of_answers(fleet, group, believed(group), least)


def _without_gaps(service_class: ServiceClass) -> ClassTargets:
    return replace(class_targets(service_class), itl_s=inf)


def _of_prompts(fleet: Fleet, model: StepTimeModel, whole: Capacity, least: int) -> Capacity:
    def rates(loads: Mapping[str, Load]) -> ReplicaRate:
        moved = {name: tuple((prompt, 1) for prompt, _ in load.lengths if prompt >= least)
                 for name, load in loads.items()}
        kept = {name: Load(load.rate_per_s * len(moved[name]) / len(load.lengths), moved[name])
                for name, load in loads.items() if moved[name]}
        share = sum(load.rate_per_s for load in kept.values()) / sum(
            load.rate_per_s for load in loads.values())
        if share <= 0.0:
            return _NONE
        found = whole(kept)
        used = _in_time(model, kept, [fleet.service_class(name).slo for name in kept])
        return ReplicaRate(used * found.saturation_per_s / share, found.saturation_per_s / share,
                           found.token_s * share, found.square_s * share)

    return rates


def _in_time(model: StepTimeModel, loads: Mapping[str, Load], slos: Sequence[Slo]) -> float:
    """Return the largest utilization at which the prompts of every class are in time.

    Poisson prompts of S seconds wait for longer than t with probability
    rho exp(-2 (1 - rho) t / (E[S] (1 + cv^2))) (heavy traffic: Kingman 1962; exact for M/M/1).
    Prompts that are late on an idle replica are no reason for more replicas.
    """
    own_s = [np.array([model.seconds(prompt, 0.5 * prompt * prompt, 0, 0)
                       for prompt, _ in load.lengths]) for load in loads.values()]
    weight = np.concatenate([np.full(len(one), load.rate_per_s / len(one))
                             for one, load in zip(own_s, loads.values(), strict=True)])
    every = np.concatenate(own_s)
    mean_s = float(np.average(every, weights=weight))
    tail_s = 0.5 * float(np.average(every * every, weights=weight)) / mean_s
    least = 1.0
    for times_s, slo in zip(own_s, slos, strict=True):
        left_s = min(_or_inf(slo.ttft_s), _or_inf(slo.e2e_s)) - times_s
        left_s = left_s[left_s > 0.0]
        least = min(least, _utilization(left_s / tail_s, slo.allowed_misses) if len(left_s) else 1)
    return least


def _utilization(left: FloatColumn, allowed: float) -> float:
    """Return the largest utilization at which at most a part of ``allowed`` of the prompts waits
    for longer than is left to each, as a multiple of the tail's mean on an idle replica."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        late = float(np.mean(middle * np.exp(-(1.0 - middle) * left)))
        low, high = (middle, high) if late <= allowed else (low, middle)
    return low


def _or_inf(value: float | None) -> float:
    return inf if value is None else value


class _Answers(NamedTuple):
    """Means of a request: its decodes, the tokens before a decode, those that it holds at the end,
    and the seconds of a prompt that is computed where it is decoded."""

    decodes: float
    context: float
    held: float
    prompt_s: float


def _of_answers(fleet: Fleet, group: ReplicaGroup, model: StepTimeModel, least: int) -> Capacity:
    seqs, most_tokens = fleet.schedule_of(group).max_num_seqs, kv_tokens(fleet, group)

    def rates(loads: Mapping[str, Load]) -> ReplicaRate:
        mean = _answers(group, model, loads, least)
        seats = int(min(seqs, most_tokens / mean.held))
        slos = [fleet.service_class(name).slo for name in loads]
        itl_s = min((slo.itl_s for slo in slos if slo.itl_s is not None), default=inf)
        percentile = min(_MOST_PERCENTILE, max(slo.percentile for slo in slos))

        def step_s(decodes: float) -> float:
            return model.seconds(0, 0.0, max(1, round(decodes)), round(decodes * mean.context))

        def per_s(decodes: float) -> float:
            return 1.0 / (mean.prompt_s + mean.decodes * step_s(decodes) / decodes)

        if seats < 1 or step_s(1.0) > itl_s:
            return _NONE
        usual = _usual(_largest(step_s, seats, itl_s), percentile)
        return ReplicaRate(per_s(usual), per_s(seats))

    return rates


def _answers(group: ReplicaGroup, model: StepTimeModel, loads: Mapping[str, Load],
             least: int) -> _Answers:
    found = [0.0, 0.0, 0.0, 0.0]
    total = sum(load.rate_per_s for load in loads.values())
    for name, load in loads.items():
        of_turn = 1.0 if group.speculation is None else turn_tokens(group.speculation, name)
        for prompt, output in load.lengths:
            decodes = max(1.0, output / of_turn)
            alone_s = model.seconds(prompt, 0.5 * prompt * prompt, 0, 0) if prompt < least else 0.0
            terms = (decodes, decodes * (prompt + 0.5 * output), prompt + output, alone_s)
            for place, term in enumerate(terms):
                found[place] += load.rate_per_s / total * term / len(load.lengths)
    return _Answers(found[0], found[1] / found[0], found[2], found[3])


def _largest(step_s: Callable[[float], float], seats: int, limit_s: float) -> int:
    """Return the largest batch, at most ``seats``, whose step lasts ``limit_s`` at most. One decode
    must do so."""
    low, high = 1, seats
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if step_s(middle) <= limit_s else (low, middle - 1)
    return low


def _usual(most: int, percentile: float) -> float:
    """Return the mean of a Poisson number that is at most ``most`` for a percentile of the time, by
    the normal distribution; half a decode at least."""
    z = max(0.0, NormalDist().inv_cdf(percentile / 100.0))
    return max(0.5, (0.5 * (sqrt(z * z + 4.0 * most) - z)) ** 2)
