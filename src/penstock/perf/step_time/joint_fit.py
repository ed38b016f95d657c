"""Joint fit of engines' rates to latencies of whole runs.

A run's mean time per output token, its time to first token and its whole time are sums over its
steps,

    time = sum_i weight_i * seconds_i(rates) + rest

where a simulation of the run gives the steps, their weights and the rest. The logarithms of all
rates are found together by least squares with a soft-L1 loss (``robust.fit_soft_l1``), in which
each effect has a normal prior (``rate_table.GROUPS``): a ridge that keeps the effects of rare keys
near zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.perf.robust import fit_soft_l1
from penstock.perf.step_time.rate_table import (
    GROUPS,
    Deployment,
    RateTable,
    least_rates,
    prior_rates,
)
from penstock.perf.step_time.terms import DENSE_SHARPNESS, EXPERT_SHARPNESS, Rates

_NUM_RATES = len(Rates._fields)
SPREADS = (0.08, 0.32, 0.12)
"""Standard deviations of measured times, in logarithms. Load tools and queues add to the time to
first token, begins and ends of runs to the whole time."""


@dataclass(frozen=True, slots=True)
class Sum:
    """A measured time that is a sum over steps.

    ``weights`` has a weight for each kind of step, ``rest_s`` is the part outside of steps,
    ``measured_s`` NaN where the time was not measured. The error counts ``trust`` times.
    """

    weights: FloatColumn
    rest_s: float
    measured_s: float
    trust: float = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """A measured run and the steps of its simulation.

    ``parts`` has a row for each rate and a column for each kind of step. ``tpot``, ``ttft`` and
    ``whole`` are its time per output token, its time to first token and its whole time.
    """

    of: Deployment
    parts: FloatColumn
    tpot: Sum
    ttft: Sum
    whole: Sum

    @property
    def sums(self) -> tuple[Sum, Sum, Sum]:
        """Return the times, in the order of ``SPREADS``."""
        return self.tpot, self.ttft, self.whole


Effects = dict[str, dict[str, dict[str, float]]]


class JointFit:
    """Runs that share effects. ``groups`` are the standard deviations of the effects' priors, which
    come on top of the rates of ``base``, or of ``PRIOR`` without."""

    def __init__(self, runs: Sequence[Run], groups: Mapping[str, float] | None = None,
                 base: RateTable | None = None) -> None:
        self._runs = runs
        self._logs = np.log(np.array(
            [prior_rates(run.of.chip, run.of.format) if base is None else base.rates(run.of)
             for run in runs]).T)
        self._least = np.array([least_rates(run.of.chip, run.of.format) for run in runs]).T
        self._parts = np.concatenate([run.parts for run in runs], axis=1)
        self._run = np.repeat(np.arange(len(runs)), [run.parts.shape[1] for run in runs])
        self._weights = [np.concatenate([run.sums[at].weights for run in runs])
                         for at in range(len(SPREADS))]
        self._rest_s, self._measured_s, trust = (
            np.array([[getattr(run.sums[at], name) for run in runs] for at in range(len(SPREADS))])
            for name in ("rest_s", "measured_s", "trust"))
        self._spread = np.array(SPREADS)[:, None] / trust
        self._keys: list[tuple[str, list[str], IntColumn]] = []
        spread: list[FloatColumn] = []
        for group, deviation in (groups or GROUPS).items():
            names, index = np.unique([run.of.key(group) for run in runs], return_inverse=True)
            self._keys.append((group, names.tolist(), index))
            spread.append(np.full(len(names) * _NUM_RATES, deviation))
        self._deviation = np.concatenate(spread)

    def predicted(self, effects: FloatColumn) -> FloatColumn:
        """Return a row for each of ``Run.sums``: the time of every run, in seconds."""
        return self._totals(self._seconds(effects)[0])

    def solve(self, chosen: Any = None) -> FloatColumn:
        """Return the effects that fit the ``chosen`` runs (a mask), all by default."""
        chosen = np.ones(len(self._runs), bool) if chosen is None else chosen
        rows = [np.flatnonzero(chosen & np.isfinite(times)) for times in self._measured_s]
        return fit_soft_l1(
            np.zeros(len(self._deviation)), self._deviation,
            lambda effects: self._errors(self._totals(self._seconds(effects)[0]), rows),
            lambda effects: self._errors_and_slopes(effects, rows)).effects

    def named(self, effects: FloatColumn, least: float = 0.004) -> Effects:
        """Return effects by parameter, group and key, those left out whose size is under
        ``least``. Effects of ``step_s`` are kept: they tell which keys were measured."""
        found: Effects = {}
        start = 0
        for group, names, _ in self._keys:
            table = effects[start:start + len(names) * _NUM_RATES].reshape(_NUM_RATES, len(names))
            start += table.size
            for rate, values in zip(Rates._fields, table.tolist(), strict=True):
                kept = {name: round(value, 3) for name, value in zip(names, values, strict=True)
                        if abs(value) >= least or rate == "step_s"}
                if kept:
                    found.setdefault(rate, {})[group] = kept
        return found

    def _rates(self, effects: FloatColumn) -> FloatColumn:
        logs = self._logs.copy()
        start = 0
        for _, names, index in self._keys:
            size = len(names) * _NUM_RATES
            logs += effects[start:start + size].reshape(_NUM_RATES, -1)[:, index]
            start += size
        rates: FloatColumn = np.exp(logs)
        return rates

    def _sum(self, values: FloatColumn) -> FloatColumn:
        sums: FloatColumn = np.zeros(len(self._runs))
        sums += np.bincount(self._run, values, len(self._runs))
        return sums

    def _seconds(self, effects: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
        """Return the seconds of each kind of step, and their slopes in the logarithms of rates."""
        rates = self._rates(effects)
        times = np.maximum(rates, self._least)[:, self._run] * self._parts
        slopes = times.copy()
        seconds = times[4:].sum(axis=0)
        for first, sharpness in ((0, DENSE_SHARPNESS), (2, EXPERT_SHARPNESS)):
            powers = times[first:first + 2]**sharpness
            total = np.maximum(powers.sum(axis=0), 1e-300)
            joined = total**(1.0 / sharpness)
            seconds = seconds + joined
            slopes[first:first + 2] = joined * powers / total
        return seconds, slopes * (rates > self._least)[:, self._run]

    def _totals(self, seconds: FloatColumn) -> FloatColumn:
        sums = [self._sum(weights * seconds) for weights in self._weights]
        totals: FloatColumn = np.maximum(np.stack(sums) + self._rest_s, 1e-9)
        return totals

    def _errors(self, totals: FloatColumn, rows: Sequence[IntColumn]) -> FloatColumn:
        """Return logarithms of predicted over measured, in standard deviations."""
        ratio = np.log(totals / self._measured_s) / self._spread
        return np.concatenate([ratio[at, chosen] for at, chosen in enumerate(rows)])

    def _errors_and_slopes(self, effects: FloatColumn,
                           rows: Sequence[IntColumn]) -> tuple[FloatColumn, Any]:
        """Return the errors, and their slopes in the effects, a sparse matrix."""
        from scipy.sparse import vstack  # type: ignore[import-untyped]

        seconds, slopes = self._seconds(effects)
        totals = self._totals(seconds)
        matrices: list[Any] = []
        for at, (weights, chosen) in enumerate(zip(self._weights, rows, strict=True)):
            slope = np.stack([self._sum(weights * one)[chosen] for one in slopes])
            matrices.append(self._design(
                slope / totals[at, chosen] / self._spread[at, chosen], chosen))
        return self._errors(totals, rows), vstack(matrices).tocsr()

    def _design(self, slope: FloatColumn, rows: IntColumn) -> Any:
        from scipy.sparse import csr_matrix

        at: list[IntColumn] = []
        columns: list[IntColumn] = []
        values: list[FloatColumn] = []
        start = 0
        for _, names, index in self._keys:
            for rate in range(_NUM_RATES):
                at.append(np.arange(len(rows)))
                columns.append(start + rate * len(names) + index[rows])
                values.append(slope[rate])
            start += len(names) * _NUM_RATES
        return csr_matrix((np.concatenate(values), (np.concatenate(at), np.concatenate(columns))),
                          (len(rows), len(self._deviation)))
