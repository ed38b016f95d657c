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
from penstock.experiment.run import passing_run, run_fleet
from penstock.fleet.scaler import start_s
from penstock.fleet.scaling import bounds
from penstock.fleet.values import Choice, Fleet, ReplicaGroup
from penstock.plan.bound import WorkRates, work_rates
from penstock.plan.scaling_bound import SAMPLE_REQUESTS
from penstock.workload.merge import joined, sampled
from penstock.workload.select import rearranged, select
from penstock.workload.workload import Traffic, Workload

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

    ``work_s`` are the replica-seconds of the requests in steps of the throughput bound, by bins of
    ``BIN_S`` in which they arrive. ``in_time_share`` is the highest utilization at which a steady
    stream meets its objectives.
    """

    number: int
    work_s: Floats
    in_time_share: float


class Part(NamedTuple):
    """Requests from a time on, with arrivals since then."""

    begin_s: float
    traffic: Traffic


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


def clairvoyant(fleet: Fleet, traffic: Traffic, seed: int,
                on_progress: Progress = lambda _: None) -> Clairvoyant | None:
    """Return what a clairvoyant needs for these requests, None where no bound is known: closed
    loops of clients, prefix caching, groups for some classes only, step times without a bound."""
    if (isinstance(traffic, Workload) and traffic.waits) or any(
            one.service_classes is not None for one in fleet.replicas):
        return None
    on_progress("the bound")
    sample, _ = sampled(traffic, SAMPLE_REQUESTS)
    try:
        demands = [_demand(fleet, traffic, sample, index, seed)
                   for index in range(len(sample.models)) if (sample.model_index == index).any()]
    except InputError:
        return None
    if not demands or any(one is None for one in demands):
        return None
    known = [one for one in demands if one is not None]
    return Clairvoyant(_bound(fleet, traffic, known),
                       _scheduled(fleet, traffic, known, seed, on_progress))


# -- from below ---------------------------------------------------------------------------------


def _demand(fleet: Fleet, traffic: Traffic, sample: Workload, index: int, seed: int
            ) -> Demand | None:
    name = sample.models[index]
    own = select(sample, sample.model_index == index)
    found = []
    for number, group in enumerate(fleet.replicas):
        if name in ("", group.model.name):
            rates = work_rates(fleet, group, own)
            share = _in_time_share(fleet, group, own, rates.seconds(own), seed)
            if share is not None:
                found.append(Demand(number, _binned(traffic, index, rates), share))
    return min(found, key=lambda one: (
        float(one.work_s.sum()) / one.in_time_share * _width(fleet, one)), default=None)


def _binned(traffic: Traffic, index: int, rates: WorkRates) -> Floats:
    """Return the work of a model's requests by bin of their arrivals, seconds."""
    found = np.zeros(int(traffic.duration_s // BIN_S) + 1)
    for block in traffic.blocks():
        own = block.model_index == index
        found += np.bincount((block.arrival_s[own] // BIN_S).astype(np.int64),
                             rates.seconds(block)[own], len(found))
    return found


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


def _bound(fleet: Fleet, traffic: Traffic, demands: Sequence[Demand]) -> float:
    computed = sum(float(one.work_s.sum()) / one.in_time_share * _width(fleet, one)
                   for one in demands)
    held = sum(bounds(fleet, group)[0] * group.parallelism.num_accelerators
               for group in fleet.replicas) * traffic.duration_s
    return max(computed, held) / _HOUR_S


# -- from above ---------------------------------------------------------------------------------


def _scheduled(fleet: Fleet, traffic: Traffic, demands: Sequence[Demand], seed: int,
               on_progress: Progress) -> float | None:
    """Return the accelerator-hours of the cheapest schedule that is found and confirmed.

    Headrooms are tried on parts of a long workload; the whole confirms the least, and asks for more
    where needed.
    """
    parts = _parts(traffic)
    found = _least_headroom(fleet, parts, demands, seed, on_progress)
    if found is None:
        return None
    headroom, hours = found
    if len(parts) == 1:
        return hours
    for _ in range(_MOST_CONFIRMATIONS):
        on_progress(f"a clairvoyant at {1 / headroom:.0%}, the whole")
        whole = [Part(0.0, traffic)]
        confirmed = _simulated(fleet, whole, _timetables(fleet, whole, demands, headroom), seed)
        if confirmed is not None:
            return confirmed
        headroom *= _STEP
    return None


def _parts(traffic: Traffic) -> list[Part]:
    """Return the whole of short traffic, else equal parts of it that are spread evenly."""
    if len(traffic) <= _SAMPLE:
        return [Part(0.0, traffic)]
    length_s = traffic.duration_s * _SAMPLE / len(traffic) / _NUM_PARTS
    begins_s = [(traffic.duration_s - length_s) * (number + 0.5) / _NUM_PARTS // BIN_S * BIN_S
                for number in range(_NUM_PARTS)]
    chosen: list[list[Workload]] = [[] for _ in begins_s]
    for block in traffic.blocks():
        for own, begin_s in zip(chosen, begins_s, strict=True):
            rows = (block.arrival_s >= begin_s) & (block.arrival_s < begin_s + length_s)
            if rows.any():
                own.append(select(block, rows))
    return [Part(begin_s, replace(whole, arrival_s=whole.arrival_s - begin_s))
            for own, begin_s in zip(chosen, begins_s, strict=True) if own
            for whole in [joined(own)]]


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
    return [schedule(fleet, demands, headroom, part.begin_s, part.traffic.duration_s)
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
        with passing_run(scheduled, part.traffic, seed) as run:
            summary = run.summary
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
    total = np.concatenate(([0.0], np.cumsum(one.work_s)))
    edges = round(begin_s / BIN_S) - num_mean + np.arange(num_bins + num_around - 1 + num_mean)
    total = total[np.clip(edges, 0, len(one.work_s))]
    mean = (total[num_mean:] - total[:-num_mean]) / _MEAN_S
    found: Floats = np.lib.stride_tricks.sliding_window_view(mean, num_around).max(axis=1)
    return found
