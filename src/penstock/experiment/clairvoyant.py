"""Accelerator-hours of a clairvoyant, from below by a relaxation and from above by a schedule.

From below: the work of all requests, on replicas of the highest utilization at which a steady
stream of the same requests, simulated, still meets its objectives. The load does not change there,
and no replica starts, drains or is whole. From above: a timetable that knows the work of every
request in advance, with the least headroom for which a simulation confirms the objectives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.fleet.scaler import start_s
from penstock.fleet.scaling import bounds
from penstock.fleet.values import Choice, Fleet, ReplicaGroup
from penstock.plan.bound import request_work_s
from penstock.workload.select import rearranged, select
from penstock.workload.workload import Workload

Floats = NDArray[np.float64]
Progress = Callable[[str], None]

STEADY_REPLICAS = 8
"""Replicas of the simulated steady stream. More share their load no better: on ServeGen's m-large,
the highest utilization is 0.68 for 1 replica, 0.84 for 4, and 0.87 for 8, 16 and 32."""

_STEADY_REQUESTS = 2_500  # of one replica
_STEADY_ROUNDS = 6
_LEAST_SHARE, _MOST_SHARE = 0.2, 1.0

BIN_S = 10.0
_MEAN_S = 60.0  # window of the work that a schedule looks at
_SAMPLE = 400_000  # requests on which the headroom is searched
_STEP = 1.04  # ratio of two headrooms that are tried
_MOST_TRIES = 12
_MOST_CONFIRMATIONS = 4
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests of one model on the group that serves them with the fewest accelerators.

    ``work_s`` are the replica-seconds of each request in steps of the throughput bound.
    ``in_time_share`` is the highest utilization at which a steady stream meets its objectives.
    """

    number: int
    arrival_s: Floats
    work_s: Floats
    in_time_share: float


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """Accelerator-hours below which no scaler is expected to meet the objectives, and those of the
    schedule that simulation confirmed, None where none was."""

    bound_gpu_hours: float
    schedule_gpu_hours: float | None


def clairvoyant(fleet: Fleet, workload: Workload, seed: int,
                on_progress: Progress = lambda _: None) -> Clairvoyant | None:
    """Return what a clairvoyant needs for these requests, None where no bound is known: closed
    loops of clients, prefix caching, groups for some classes only, step times without a bound."""
    if workload.loops is not None or any(one.service_classes is not None
                                         for one in fleet.replicas):
        return None
    on_progress("the bound")
    try:
        demands = [_demand(fleet, workload, index, seed) for index in range(len(workload.models))
                   if (workload.model_index == index).any()]
    except InputError:
        return None
    if not demands or any(one is None for one in demands):
        return None
    known = [one for one in demands if one is not None]
    return Clairvoyant(_bound(fleet, workload, known),
                       _scheduled(fleet, workload, known, seed, on_progress))


# -- from below ---------------------------------------------------------------------------------


def _demand(fleet: Fleet, workload: Workload, index: int, seed: int) -> Demand | None:
    name = workload.models[index]
    own = select(workload, workload.model_index == index)
    found = []
    for number, group in enumerate(fleet.replicas):
        if name in ("", group.model.name):
            work_s = request_work_s(fleet, group, own)
            share = _in_time_share(fleet, group, own, work_s, seed)
            if share is not None:
                found.append(Demand(number, own.arrival_s, work_s, share))
    return min(found, key=lambda one: (
        float(one.work_s.sum()) / one.in_time_share * _width(fleet, one)), default=None)


def _width(fleet: Fleet, one: Demand) -> int:
    return fleet.replicas[one.number].parallelism.num_accelerators


def _in_time_share(fleet: Fleet, group: ReplicaGroup, own: Workload, work_s: Floats, seed: int
                   ) -> float | None:
    """Return the highest utilization of equal replicas at which Poisson arrivals of the requests,
    in random order, meet their objectives; None where none does."""
    steady = replace(fleet, replicas=(replace(group, count=STEADY_REPLICAS, min_replicas=None),),
                     policies=replace(fleet.policies, scale=Choice("none")))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(own))[:STEADY_REPLICAS * _STEADY_REQUESTS]
    gaps = rng.exponential(1.0, len(order)).cumsum()
    mean_s = float(work_s[order].mean())

    def meets(share: float) -> bool:
        rate_per_s = share * STEADY_REPLICAS / mean_s
        run = run_fleet(steady, rearranged(own, order, gaps / rate_per_s), seed)
        return run.summary.overall.meets_slo is True

    low, high = _LEAST_SHARE, _MOST_SHARE
    if not meets(low):
        return None
    for _ in range(_STEADY_ROUNDS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if meets(middle) else (low, middle)
    return high


def _bound(fleet: Fleet, workload: Workload, demands: Sequence[Demand]) -> float:
    computed = sum(float(one.work_s.sum()) / one.in_time_share * _width(fleet, one)
                   for one in demands)
    held = sum(bounds(fleet, group)[0] * group.parallelism.num_accelerators
               for group in fleet.replicas) * workload.duration_s
    return max(computed, held) / _HOUR_S


# -- from above ---------------------------------------------------------------------------------


def _scheduled(fleet: Fleet, workload: Workload, demands: Sequence[Demand], seed: int,
               on_progress: Progress) -> float | None:
    """Return the accelerator-hours of the cheapest schedule that is found and confirmed.

    Headrooms are tried on a part of a long workload; the whole confirms the one that is found, and
    asks for more where needed.
    """
    part = _part(workload, demands)
    headroom = _least_headroom(fleet, part, demands, seed, on_progress)
    if headroom is None:
        return None
    for _ in range(_MOST_CONFIRMATIONS):
        on_progress(f"confirming a schedule with {headroom - 1:.0%} headroom")
        hours = _confirmed(fleet, workload, demands, headroom, 0.0, seed)
        if hours is not None:
            return hours
        headroom *= _STEP
    return None


def _part(workload: Workload, demands: Sequence[Demand]) -> tuple[Workload, float]:
    """Return the part of the workload of the median work, and when it begins."""
    num_parts = ceil(len(workload) / _SAMPLE)
    edges = np.linspace(0.0, workload.duration_s + 1e-9, num_parts + 1)
    works = [sum(float(one.work_s[(one.arrival_s >= a) & (one.arrival_s < b)].sum())
                 for one in demands) for a, b in pairwise(edges.tolist())]
    place = int(np.argsort(works, kind="stable")[num_parts // 2])
    begin_s, end_s = float(edges[place]), float(edges[place + 1])
    found = select(workload, (workload.arrival_s >= begin_s) & (workload.arrival_s < end_s))
    return replace(found, arrival_s=found.arrival_s - begin_s), begin_s


def _least_headroom(fleet: Fleet, part: tuple[Workload, float], demands: Sequence[Demand],
                    seed: int, on_progress: Progress) -> float | None:
    """Return the least headroom over the work with which the objectives are met."""
    workload, begin_s = part
    headroom = 1.0 / min(one.in_time_share for one in demands)
    best = None
    for _ in range(_MOST_TRIES):
        on_progress(f"a schedule with {headroom - 1:.0%} headroom")
        if _confirmed(fleet, workload, demands, headroom, begin_s, seed) is not None:
            best, headroom = headroom, headroom / _STEP
        elif best is not None:
            return best
        else:
            headroom *= _STEP
    return best


def _confirmed(fleet: Fleet, workload: Workload, demands: Sequence[Demand], headroom: float,
               begin_s: float, seed: int) -> float | None:
    """Return the accelerator-hours of the schedule with that headroom; None where the simulation
    misses an objective."""
    rows = schedule(fleet, demands, headroom, begin_s, workload.duration_s)
    first = rows[0][1:]
    groups = tuple(replace(group, count=int(count))
                   for group, count in zip(fleet.replicas, first, strict=True))
    scheduled = replace(fleet, replicas=groups, policies=replace(
        fleet.policies, scale=Choice("schedule", {"steps": rows, "period_s": BIN_S})))
    summary = run_fleet(scheduled, workload, seed).summary
    assert summary.scaling is not None, "the fleet scales"
    return summary.scaling.gpu_hours if summary.overall.meets_slo else None


def schedule(fleet: Fleet, demands: Sequence[Demand], headroom: float, begin_s: float,
             duration_s: float) -> list[list[float]]:
    """Return the rows of a timetable: times from ``begin_s`` on, and replicas by group.

    A replica is ordered a start time before its work arrives, and kept over a gap that is shorter
    than a start.
    """
    num_bins = max(1, ceil(duration_s / BIN_S))
    counts = np.zeros((num_bins, len(fleet.replicas)), np.int64)
    for number, group in enumerate(fleet.replicas):
        low, high = bounds(fleet, group)
        need = np.zeros(num_bins)
        for one in demands:
            if one.number == number:
                ahead_s = start_s(fleet, number) + _MEAN_S
                need += _peaks(one, begin_s, num_bins, ahead_s)
        counts[:, number] = np.clip(np.ceil(headroom * need - 1e-9), low, high)
    changes = [0, *(np.flatnonzero((counts[1:] != counts[:-1]).any(axis=1)) + 1).tolist()]
    return [[row * BIN_S, *counts[row].tolist()] for row in changes]


def _peaks(one: Demand, begin_s: float, num_bins: int, ahead_s: float) -> Floats:
    """Return by bin the highest mean work per second, over a minute, of the time ahead."""
    num_mean, num_ahead = round(_MEAN_S / BIN_S), ceil(ahead_s / BIN_S)
    edges = begin_s + BIN_S * np.arange(num_bins + num_mean + num_ahead + 1)
    total = np.concatenate(([0.0], np.cumsum(one.work_s)))[np.searchsorted(one.arrival_s, edges)]
    mean = (total[num_mean:] - total[:-num_mean]) / _MEAN_S
    ahead = np.lib.stride_tricks.sliding_window_view(mean, num_ahead + 1)
    found: Floats = ahead.max(axis=1)[:num_bins]
    return found
