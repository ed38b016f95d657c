"""The tuner's trajectories: Inferno's filter against written formulas and recorded runs."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError
from penstock.published.inferno.loop.cycles import State
from penstock.published.inferno.loop.learners import errors, new_calibration, served, state_of
from penstock.published.inferno.loop.tuner_log import TunedCycle
from penstock.published.inferno.read import read_json
from penstock.published.inferno.tuner.ekf import new_filter, step
from penstock.published.inferno.tuner.tuner import Tuner
from penstock.published.inferno.tuner.values import FilterConfig, OperatingPoint, TunerSettings

DERIVED = "derived_ekf_trajectory.json"
TRACE = "tuner-exp13.csv"
CASES = ("three_points", "single_point")

RUN_FILTER = FilterConfig(error_level=0.2, percent_change=(0.1, 0.1, 0.1),
                          expected_observations=(1000.0, 100.0))
"""Configuration of the tuner in the documented runs."""

TRACE_FILTER = FilterConfig(
    error_level=0.05, init_state=(1.0, 0.01), percent_change=(0.1, 0.1),
    least_state=(0.1, 0.001), most_state=(50.0, 2.0), expected_observations=(200.0, 2.0))
"""Upstream's configuration for traces without prompts."""


@dataclass(frozen=True, slots=True)
class Derived:
    """A trajectory that the written formulas give: observations, and the largest relative deviation
    of states and NIS."""

    points: tuple[OperatingPoint, ...]
    truth: State
    deviation: float


def read_derived(path: Path) -> dict[str, Derived]:
    """Follow the derived trajectories of a file. Raises InputError for another form."""
    document = read_json(path)
    try:
        alpha, beta, gamma = document["truth"]
        return {case: _derived(document[case], (alpha, beta, gamma))
                for case in CASES if case in document}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: expected trajectories of the filter "
                         f"({type(error).__name__}: {error})") from error


def _derived(records: Sequence[dict[str, Any]], truth: State) -> Derived:
    of, estimate = new_filter(FilterConfig())
    points, largest = [], 0.0
    for record in records:
        point = OperatingPoint(*record["env"], *record["z"])
        found = step(of, estimate, point, None)
        estimate = found.estimate
        pairs = zip((*estimate.state, found.nis), (*record["x"], record["nis"]), strict=True)
        largest = max(largest, *(abs(ours / theirs - 1.0) for ours, theirs in pairs))
        points.append(point)
    return Derived(tuple(points), truth, largest)


@dataclass(frozen=True, slots=True)
class Followed:
    """A measured trace that the filter follows: number of observations, mean relative error of ITL
    predicted before each observation after the first ten, and the last state."""

    num_points: int
    mean_error: float
    state: tuple[float, ...]


def read_trace(path: Path) -> Followed:
    """Follow OPT-125M on an A100, prompts left out. Raises InputError for another form."""
    of, estimate = new_filter(TRACE_FILTER)
    off = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                point = OperatingPoint(float(row["RPM"]), int(row["maxConcurrency"]), 0, 0.0,
                                       float(row["tokens"]), float(row["avgWait"]),
                                       float(row["avgITL"]))
                found = step(of, estimate, point, None)
                estimate = found.estimate
                off.append(abs(found.innovation[1]) / point.itl_ms)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path}: expected a measured trace of the tuner "
                         f"({type(error).__name__}: {error})") from error
    if len(off) < _FEWEST:
        raise InputError(f"{path}: {len(off)} rows; expected at least {_FEWEST}")
    return Followed(len(off), float(np.mean(off[10:])), estimate.state)


_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Replayed:
    """One model of a recorded run after a cycle: the largest relative deviation of our tuner's
    state from the recorded one (None where ours learned nothing), and the errors of the recorded
    parameters and of Penstock's calibration."""

    model: str
    deviation: float | None
    theirs: State
    ours: State


def replay(cycles: Sequence[TunedCycle], settings: TunerSettings, truth: dict[str, State]
           ) -> Iterator[Replayed]:
    """Yield every cycle that taught the recorded tuner something."""
    tuners = {one.model: Tuner(settings) for one in cycles}
    calibrations = {one.model: new_calibration(one.points[0]) for one in reversed(cycles)}
    for one in cycles:
        learned = tuners[one.model].tune(one.points)
        for point in one.points:
            calibrations[one.model].observe(served(point))
        if one.state is None:
            continue
        deviation = None if learned is None else max(
            abs(ours / theirs - 1.0)
            for ours, theirs in zip(learned.state, one.state, strict=True))
        known = calibrations[one.model].known
        yield Replayed(one.model, deviation, errors(one.state, truth[one.model]),
                       errors(state_of(known.times), truth[one.model]))
