"""Delay of MaverIQ's controller between a turn and the start of work, from records.

Its loop wakes every 10 ms and starts at most one request, so a request that nothing holds back
still waits some milliseconds. When a client is let in, the loop sleeps for 10 s. Both show in the
records: by the order of arrival and the devices of each deployment, it is known when a request
could have started.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

import numpy as np

from penstock.metrics.definitions import FloatColumn
from penstock.published.maveriq.records import Run

STALL_S = 5.0
"""Nothing but the sleep at a client's admission takes longer."""

ADMISSION_S = 10.0
"""That sleep, as the controller's source has it (UT-SysML/MaverIQ, commit 067d7a1)."""

LOADING_S = 60.0
"""Nothing arrives for longer than this only while a model is being deployed."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Between the moment ``ready_s``, from which a request could start, and its start."""

    client: int
    ready_s: float
    seconds: float


def gaps(run: Run) -> list[Gap]:
    """One gap per request, in order of arrival, under one FIFO for all deployments.

    A request is ready when it has arrived, the one before it has started, and all its devices are
    idle. The run must be replayable.
    """
    idle_s: dict[int, float] = {}
    before_s, found = 0.0, []
    start_s = run.arrival_s + run.e2e_s - run.service_s
    for client, arrival_s, starts_s, e2e_s in zip(
            run.client.tolist(), run.arrival_s.tolist(), start_s.tolist(), run.e2e_s.tolist(),
            strict=True):
        devices = run.deployments[client].devices or frozenset()
        ready_s = max(arrival_s, before_s, *(idle_s.get(device, 0.0) for device in devices))
        found.append(Gap(client, ready_s, starts_s - ready_s))
        before_s = starts_s
        idle_s.update(dict.fromkeys(devices, arrival_s + e2e_s))
    return found


def overheads_s(runs: Iterable[Run]) -> dict[str, float]:
    """Mean seconds between turn and start by model, sleeps left out. Every run counts alike."""
    by_model: dict[str, list[float]] = {}
    for run in runs:
        mine: dict[str, list[float]] = {}
        for gap in gaps(run):
            if 0.0 <= gap.seconds < 1.0:
                mine.setdefault(run.models[gap.client], []).append(gap.seconds)
        for model, seconds in mine.items():
            by_model.setdefault(model, []).append(fmean(seconds))
    return {model: fmean(means) for model, means in by_model.items()}


def loading_from_s(arrival_s: FloatColumn) -> list[float]:
    """When arrivals stop for a model to be deployed."""
    return [float(one) for one, other in pairwise(arrival_s.tolist()) if other - one > LOADING_S]


def admission_lag_s(runs: Iterable[Run]) -> dict[str, float]:
    """By model, the median of how long after arrivals stopped its client's admission stalled the
    queue. Only runs whose queues were not empty then show it."""
    lags: dict[str, list[float]] = {}
    for run in runs:
        stalls = [gap for gap in gaps(run) if gap.seconds > STALL_S]
        for from_s, client in _admissions(run):
            near = [gap.ready_s - from_s for gap in stalls
                    if from_s < gap.ready_s < from_s + 2 * LOADING_S]
            if near:
                lags.setdefault(run.models[client], []).append(near[0])
    return {model: median(found) for model, found in lags.items()}


def pauses(run: Run, lags_s: Mapping[str, float]) -> tuple[tuple[float, float], ...]:
    """When the controller sleeps in a run, for models whose lag is known; otherwise after the
    median of all known lags."""
    if not lags_s:
        return ()
    usual = median(lags_s.values())
    found = []
    for from_s, client in _admissions(run):
        begins_s = from_s + lags_s.get(run.models[client], usual)
        found.append((begins_s, begins_s + ADMISSION_S))
    return tuple(found)


def _admissions(run: Run) -> list[tuple[float, int]]:
    """When arrivals stopped before the first request of each client but the first."""
    stops = loading_from_s(run.arrival_s)
    found = []
    for client in sorted(run.models)[1:]:
        first_s = float(np.min(run.arrival_s[run.client == client]))
        before = [stop for stop in stops if stop < first_s]
        if before:
            found.append((before[-1], client))
    return found
