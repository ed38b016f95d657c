"""Accelerator-hours of a clairvoyant, from below by a relaxation and from above by a schedule.

From below: the work of all requests, on replicas of the highest utilization at which a steady
stream of the same requests, simulated, still meets its objectives. The load does not change there,
and no replica starts, drains or is whole. From above: a timetable that knows the work of every
request in advance, with the least headroom for which a simulation confirms the objectives.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import NamedTuple

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
Timetable = list[list[float]]

STEADY_REPLICAS = 8
"""Replicas of the simulated steady stream. More share their load no better: on ServeGen's m-large,
the highest utilization is 0.68 for 1 replica, 0.84 for 4, and 0.87 for 8, 16 and 32."""

_STEADY_REQUESTS = 2_500  # of one replica
_STEADY_ROUNDS = 6
_LEAST_SHARE, _MOST_SHARE = 0.2, 1.0

BIN_S = 10.0
_MEAN_S = 60.0  # window of the work that a schedule looks at
_SAMPLE = 200_000  # requests on which the headroom is searched
_NUM_PARTS = 5
_STEP = 1.03  # ratio of two headrooms that are tried
_MOST_TRIES = 20
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


class Part(NamedTuple):
    """Requests of a workload from a time on, with arrivals since then."""

    begin_s: float
    workload: Workload


@dataclass(frozen=True, slots=True)
class Clairvoyant:
    """Accelerator-hours below which no scaler is expected to meet the objectives, and those of the
    schedule that simulation confirmed, None where none was."""

    low_gpu_hours: float
    schedule_gpu_hours: float | None

    @property
    def gpu_hours(self) -> float:
        """Accelerator-hours of the schedule, or those of the relaxation without one."""
        return self.low_gpu_hours if self.schedule_gpu_hours is None else self.schedule_gpu_hours


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

    Headrooms are tried on parts of a long workload; the whole confirms the least, and asks for more
    where needed.
    """
    parts = _parts(workload)
    found = _least_headroom(fleet, parts, demands, seed, on_progress)
    if found is None:
        return None
    headroom, hours = found
    if len(parts) == 1:
        return hours
    for _ in range(_MOST_CONFIRMATIONS):
        on_progress(f"a clairvoyant at {1 / headroom:.0%}, the whole")
        whole = [Part(0.0, workload)]
        confirmed = _simulated(fleet, whole, _timetables(fleet, whole, demands, headroom), seed)
        if confirmed is not None:
            return confirmed
        headroom *= _STEP
    return None


def _parts(workload: Workload) -> list[Part]:
    """Return the whole of a short workload, else equal parts of it that are spread evenly."""
    if len(workload) <= _SAMPLE:
        return [Part(0.0, workload)]
    length_s = workload.duration_s * _SAMPLE / len(workload) / _NUM_PARTS
    found = []
    for number in range(_NUM_PARTS):
        begin_s = (workload.duration_s - length_s) * (number + 0.5) / _NUM_PARTS
        rows = (workload.arrival_s >= begin_s) & (workload.arrival_s < begin_s + length_s)
        own = select(workload, rows)
        found.append(Part(begin_s, replace(own, arrival_s=own.arrival_s - begin_s)))
    return [one for one in found if len(one.workload)]


def _least_headroom(fleet: Fleet, parts: Sequence[Part], demands: Sequence[Demand], seed: int,
                    on_progress: Progress) -> tuple[float, float] | None:
    """Return the least headroom over the work with which the objectives are met, and its
    accelerator-hours."""
    headroom = 1.0 / min(one.in_time_share for one in demands)
    best = hours = None
    rows: list[Timetable] = []
    for _ in range(_MOST_TRIES):
        tried, rows = rows, _timetables(fleet, parts, demands, headroom)
        if rows != tried:  # else the numbers of replicas are the same
            on_progress(f"a clairvoyant at {1 / headroom:.0%} of the throughput bound")
            hours = _simulated(fleet, parts, rows, seed)
        if hours is not None:
            best = headroom, hours
            headroom /= _STEP
        elif best is not None:
            break
        else:
            headroom *= _STEP
    return best


def _timetables(fleet: Fleet, parts: Sequence[Part], demands: Sequence[Demand], headroom: float
                ) -> list[Timetable]:
    return [schedule(fleet, demands, headroom, part.begin_s, part.workload.duration_s)
            for part in parts]


def _simulated(fleet: Fleet, parts: Sequence[Part], timetables: Sequence[Timetable], seed: int
               ) -> float | None:
    """Return the accelerator-hours of the parts with their timetables; None where the simulation
    misses an objective."""
    hours = 0.0
    received: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for part, rows in zip(parts, timetables, strict=True):
        groups = tuple(replace(group, count=int(count))
                       for group, count in zip(fleet.replicas, rows[0][1:], strict=True))
        scheduled = replace(fleet, replicas=groups, policies=replace(
            fleet.policies, scale=Choice("schedule", {"steps": rows, "period_s": BIN_S})))
        summary = run_fleet(scheduled, part.workload, seed).summary
        if summary.scaling is None:  # of confidential requests, which are not told
            return None
        hours += summary.scaling.gpu_hours
        for name, one in summary.classes.items():
            received[name] += one.received
            met[name] += one.met
    meets = all(met[name] >= fleet.service_class(name).slo.percentile / 100.0 * number
                for name, number in received.items())
    return hours if meets else None


def schedule(fleet: Fleet, demands: Sequence[Demand], headroom: float, begin_s: float,
             duration_s: float) -> Timetable:
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
                need += _peaks(one, begin_s, num_bins, start_s(fleet, number))
        counts[:, number] = np.clip(np.ceil(headroom * need - 1e-9), low, high)
    changes = [0, *(np.flatnonzero((counts[1:] != counts[:-1]).any(axis=1)) + 1).tolist()]
    return [[row * BIN_S, *counts[row].tolist()] for row in changes]


def _peaks(one: Demand, begin_s: float, num_bins: int, ahead_s: float) -> Floats:
    """Return by bin the highest work per second, a mean over the minute around, of the half minute
    before and of the time ahead. Work of the half minute before may still be computed."""
    num_mean = round(_MEAN_S / BIN_S)
    num_around = num_mean // 2 + ceil(ahead_s / BIN_S) + 1
    edges = begin_s - _MEAN_S + BIN_S * np.arange(num_bins + num_around - 1 + num_mean)
    total = np.concatenate(([0.0], np.cumsum(one.work_s)))[np.searchsorted(one.arrival_s, edges)]
    mean = (total[num_mean:] - total[:-num_mean]) / _MEAN_S
    found: Floats = np.lib.stride_tricks.sliding_window_view(mean, num_around).max(axis=1)
    return found
