"""MaverIQ's estimators on its own measurements, and ours on models that they never saw."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from penstock.catalog.catalog import load_catalog
from penstock.core.errors import InputError
from penstock.estimate.training import (
    FINGERPRINTS,
    WHOLE,
    read_sessions,
    subjects_of,
    without,
)
from penstock.experiment.workers import ALONE, Executor
from penstock.perf.fingerprint.cuts import Cuts, Session, configuration_of, key_of
from penstock.perf.fingerprint.estimator import Estimate, fit_estimator
from penstock.perf.fingerprint.intervals import COVERAGE
from penstock.perf.fingerprint.physics import Subject
from penstock.perf.profiles.rows import ProfiledRun
from penstock.published.figures import Figure
from penstock.published.maveriq.estimates import read_exponents
from penstock.published.maveriq.fingerprints import MaveriqEstimator
from penstock.published.maveriq.tables import read_maveriq

ACCELERATOR = "a6000"
OUTPUT_TOKENS = 100

# Errors |estimated / measured - 1| in percent: mean, median, 95th percentile. Recomputed from the
# released tables with the authors' protocol; medians over all six models are the published ones.
PUBLISHED: Mapping[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "falcon-7b": ((4.6, 4.6, 8.7), (2.5, 1.6, 7.4)),
    "falcon-40b": ((4.9, 2.2, 15.1), (2.6, 1.9, 8.3)),
    "gptj-6b": ((10.6, 6.1, 38.4), (15.4, 10.4, 39.0)),
    "llama-2-7b": ((10.4, 4.9, 29.7), (12.0, 8.4, 34.8)),
    "llama-2-13b": ((9.6, 3.1, 38.8), (11.7, 7.6, 32.4)),
    "llama-2-70b": ((8.9, 5.4, 34.0), (4.0, 1.9, 16.8)),
}
_STATISTICS: tuple[tuple[str, Callable[[np.ndarray[tuple[int], np.dtype[np.float64]]], float]],
                   ...] = (
    ("mean", lambda errors: float(errors.mean())),
    ("median", lambda errors: float(np.median(errors))),
    ("p95", lambda errors: float(np.percentile(errors, 95))),
)
_REGRETS: Mapping[str, float] = {"min_lat": 12.0, "min_gpu_cost": 3.0, "min_cost": 3.0,
                                 "min_mem": 3.0}


@dataclass(frozen=True, slots=True)
class Guess:
    """A run that was measured, and what was said of it: seconds and bytes."""

    run: ProfiledRun
    latency_s: float
    memory_bytes: float


class _HeldOut(NamedTuple):
    single: list[tuple[ProfiledRun, Estimate]]
    batched: list[tuple[ProfiledRun, Estimate]]


def published_figures(data: Path) -> list[Figure]:
    """Per-model errors of L2 and M2 at output 100 for the models that are there, to 0.1 point."""
    subjects = subjects_of(PUBLISHED, load_catalog(), load_catalog().accelerator(ACCELERATOR))
    runs = [run for run in read_maveriq(_file(data, WHOLE)) if run.output_tokens == OUTPUT_TOKENS]
    guesses = published_guesses(data, runs, subjects)
    figures: list[Figure] = []
    for model in dict.fromkeys(run.model for run in runs):
        own = [guess for guess in guesses if guess.run.model == model]
        for what, errors, expected in (("latency L2", latency_errors(own), 0),
                                       ("memory M2", memory_errors(own), 1)):
            published = PUBLISHED.get(model)
            for i, (name, statistic) in enumerate(_STATISTICS):
                figures.append(Figure(
                    f"{model} {what}, {name} error, %",
                    None if published is None else published[expected][i],
                    round(statistic(errors), 1), "absolute", 0.1001))
    for what, errors in (("latency L2", latency_errors(guesses)),
                         ("memory M2", memory_errors(guesses))):
        figures += [Figure(f"all models here, {what}, {name} error, %", None,
                           statistic(errors), "shown") for name, statistic in _STATISTICS]
    return figures


def published_guesses(data: Path, runs: Iterable[ProfiledRun],
                      subjects: Mapping[str, Subject]) -> list[Guess]:
    """Return the estimates of MaverIQ's estimators for runs of whole models, batch 1."""
    rule = MaveriqEstimator(Cuts(read_maveriq(_file(data, FINGERPRINTS))),
                            read_exponents(_file(data, "latency_exponents"), "fingerprint"))
    found = []
    for run in runs:
        configuration, layers = configuration_of(key_of(run)), subjects[run.model].model.num_layers
        latency_s = rule.latency_s(run.model, layers, configuration, run.output_tokens)
        memory = rule.memory_bytes(run.model, layers, configuration)
        if latency_s is None or memory is None:
            raise InputError(f"{data}: a fingerprint or exponent of {run.model} is missing for "
                             f"{configuration.name}")
        found.append(Guess(run, latency_s, memory))
    return found


def our_figures(data: Path, where: Executor = ALONE) -> list[Figure]:
    """Ours with every model left out in turn, the targets that we set ourselves, coverage, and what
    choosing by the estimates costs beside MaverIQ's."""
    sessions = read_sessions(data, load_catalog())
    names = {run.model for session in sessions for run in session.whole}
    names |= {model for session in sessions for model in session.cuts.models}
    subjects = subjects_of(sorted(names), load_catalog(), load_catalog().accelerator(ACCELERATOR))
    single, batched = held_out(sessions, subjects, where)
    guesses = [_guess(run, estimate) for run, estimate in single]
    at = [guess for guess in guesses if guess.run.output_tokens == OUTPUT_TOKENS]
    wide = [guess for guess in at if guess.run.tensor >= 4]
    figures = [
        *_errors("latency, output 100", latency_errors(at), median=2.2, mean=5.5),
        *_errors("latency, output 100, TP 4 and 8", latency_errors(wide), mean=12.0),
        *_errors("latency, all outputs", latency_errors(guesses)),
        *_errors("memory, output 100", memory_errors(at), median=1.5, mean=3.4)]
    if batched:
        figures += _errors("latency, batches of 1 to 64", latency_errors(
            [_guess(run, estimate) for run, estimate in batched]), median=6.5)
    figures += _coverage(single)
    theirs = published_guesses(data, [guess.run for guess in guesses], subjects)
    for intent, most in _REGRETS.items():
        figures.append(Figure(f"regret of {intent}, mean, %", most, float(np.mean(
            regrets(guesses, intent))), "at_most"))
        figures.append(Figure(f"regret of {intent} by MaverIQ's estimates, mean, %", None,
                              float(np.mean(regrets(theirs, intent))), "shown"))
    return figures


def held_out(sessions: Sequence[Session], subjects: Mapping[str, Subject],
             where: Executor = ALONE) -> _HeldOut:
    """Runs of whole models with what an estimator says that saw no whole run of that model: those
    of the first session, and those of other sessions that have its fingerprints (batches)."""
    found = _HeldOut([], [])
    models = dict.fromkeys(run.model for run in sessions[0].whole)
    for single, batched in where.results(partial(_without, sessions, subjects), models):
        found.single.extend(single)
        found.batched.extend(batched)
    return found


def _without(sessions: Sequence[Session], subjects: Mapping[str, Subject], model: str) -> _HeldOut:
    """The runs of a model, by an estimator without them."""
    estimator = fit_estimator(without(sessions, model), subjects, sessions[0].cuts)
    found = _HeldOut([], [])
    for session in sessions:
        if model not in session.cuts.models:
            continue
        own = estimator.with_cuts(session.cuts)
        into = found.single if session is sessions[0] else found.batched
        into += [(run, own.estimate(model, configuration_of(key_of(run)), run.output_tokens,
                                    run.batch))
                 for run in session.whole if run.model == model and run.latency_s is not None]
    return found


def regrets(guesses: Sequence[Guess], intent: str) -> list[float]:
    """By model and output length: how much more, in percent, the truth of the configuration with
    the least estimate is than the least truth. Only configurations that were measured count."""
    groups: dict[tuple[str, int], list[Guess]] = {}
    for guess in guesses:
        groups.setdefault((guess.run.model, guess.run.output_tokens), []).append(guess)
    found = []
    for group in groups.values():
        chosen = min(group, key=lambda one: _worth(intent, one.run, one.latency_s,
                                                   one.memory_bytes))
        truths = [_true_worth(intent, one.run) for one in group]
        found.append(100.0 * (_true_worth(intent, chosen.run) / min(truths) - 1.0))
    return found


def latency_errors(guesses: Iterable[Guess]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """|estimated / measured - 1| of latency in percent."""
    return np.array([100.0 * abs(one.latency_s / one.run.latency_s - 1.0) for one in guesses
                     if one.run.latency_s])


def memory_errors(guesses: Iterable[Guess]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """|estimated / measured - 1| of memory in percent."""
    return np.array([100.0 * abs(one.memory_bytes / one.run.memory_bytes - 1.0) for one in guesses
                     if one.run.memory_bytes])


def _errors(what: str, errors: np.ndarray[tuple[int], np.dtype[np.float64]], *,
            median: float | None = None, mean: float | None = None) -> list[Figure]:
    targets = {"median": median, "mean": mean, "p95": None}
    return [Figure(f"left out: {what}, {name} error, %", targets[name], statistic(errors),
                   "shown" if targets[name] is None else "at_most")
            for name, statistic in _STATISTICS]


def _coverage(single: Sequence[tuple[ProfiledRun, Estimate]]) -> list[Figure]:
    figures = []
    for what, inside in (
            ("latency", [estimate.latency_s.low <= (run.latency_s or 0.0)
                         <= estimate.latency_s.high for run, estimate in single]),
            ("memory", [estimate.memory_bytes.low <= (run.memory_bytes or 0.0)
                        <= estimate.memory_bytes.high for run, estimate in single])):
        figures.append(Figure(f"left out: {what} within the {COVERAGE:.0%} interval, %", 90.0,
                              100.0 * float(np.mean(inside)), "absolute", 5.0))
    return figures


def _guess(run: ProfiledRun, estimate: Estimate) -> Guess:
    return Guess(run, estimate.latency_s.value, estimate.memory_bytes.value)


def _worth(intent: str, run: ProfiledRun, latency_s: float, memory_bytes: float) -> float:
    return {"min_lat": latency_s, "min_mem": memory_bytes,
            "min_cost": latency_s * memory_bytes,
            "min_gpu_cost": latency_s * run.num_accelerators}[intent]


def _true_worth(intent: str, run: ProfiledRun) -> float:
    return _worth(intent, run, run.latency_s or np.inf, run.memory_bytes or np.inf)


def _file(data: Path, name: str) -> Path:
    found = sorted(data.glob(f"{name}.csv*"))
    if not found:
        raise InputError(f"{data}: holds no {name}.csv")
    return found[0]
