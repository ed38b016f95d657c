"""Joint fit of engines' rates to latencies of whole runs.

A run's mean time per output token and time to first token are sums over its steps,

    tpot = sum_i tpot_weight_i * seconds_i(rates),  ttft = sum_i ttft_weight_i * seconds_i + rest

where a simulation of the run gives the steps and their weights. The logarithms of all rates are
found together by least squares with a soft-L1 loss (Gauss-Newton, reweighted), in which each effect
has a normal prior (``rate_table.GROUPS``): a ridge that keeps the effects of rare keys near zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.perf.step_time.rate_table import GROUPS, PRIOR, Deployment
from penstock.perf.step_time.terms import DENSE_SHARPNESS, EXPERT_SHARPNESS, Rates

_NUM_RATES = len(Rates._fields)
_SPREAD = 0.08  # of a measurement, in logarithms
_TTFT_SPREAD = 0.32  # load tools and queues add to the first token's
_MOST_ITERATIONS = 30
_MOST_HALVINGS = 6
_LARGEST_STEP = 1.0
_ENOUGH = 1e-4


@dataclass(frozen=True, slots=True)
class Run:
    """A measured run and the steps of its simulation.

    ``parts`` has a row for each rate and a column for each kind of step. ``rest_s`` is the time of
    a first token outside of steps. A measured time is NaN where none is to be fitted. The error of
    the time to first token counts ``ttft_trust`` times.
    """

    of: Deployment
    parts: FloatColumn
    tpot_weights: FloatColumn
    ttft_weights: FloatColumn
    rest_s: float
    tpot_s: float
    ttft_s: float
    ttft_trust: float = 1.0


Effects = dict[str, dict[str, dict[str, float]]]


class JointFit:
    """Runs that share effects. ``groups`` are the standard deviations of the effects' priors."""

    def __init__(self, runs: Sequence[Run], groups: dict[str, float] | None = None) -> None:
        self._runs = runs
        self._parts = np.concatenate([run.parts for run in runs], axis=1)
        self._run = np.repeat(np.arange(len(runs)), [run.parts.shape[1] for run in runs])
        self._tpot_weights = np.concatenate([run.tpot_weights for run in runs])
        self._ttft_weights = np.concatenate([run.ttft_weights for run in runs])
        self._rest_s = np.array([run.rest_s for run in runs])
        self._tpot_s = np.array([run.tpot_s for run in runs])
        self._ttft_s = np.array([run.ttft_s for run in runs])
        self._ttft_spread = _TTFT_SPREAD / np.array([run.ttft_trust for run in runs])
        self._keys: list[tuple[str, list[str], IntColumn]] = []
        spread: list[FloatColumn] = []
        for group, deviation in (groups or dict(GROUPS)).items():
            names, index = np.unique([run.of.key(group) for run in runs], return_inverse=True)
            self._keys.append((group, names.tolist(), index))
            spread.append(np.full(len(names) * _NUM_RATES, deviation))
        self._deviation = np.concatenate(spread)

    def predicted(self, effects: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
        """Return time per output token and time to first token of every run, in seconds."""
        return self._totals(self._seconds(effects)[0])

    def solve(self, chosen: Any = None) -> FloatColumn:
        """Return the effects that fit the ``chosen`` runs (a mask), all by default."""
        chosen = np.ones(len(self._runs), bool) if chosen is None else chosen
        tpot_rows = np.flatnonzero(chosen & np.isfinite(self._tpot_s))
        ttft_rows = np.flatnonzero(chosen & np.isfinite(self._ttft_s))
        effects = np.zeros(len(self._deviation))
        cost = self._cost(effects, tpot_rows, ttft_rows)
        for _ in range(_MOST_ITERATIONS):
            error, slope = self._errors_and_slopes(effects, tpot_rows, ttft_rows)
            weight = 1.0 / np.sqrt(1.0 + error * error)
            weighted = slope.multiply(weight[:, None]).tocsr()
            square = np.asarray((slope.T @ weighted).todense())
            square[np.diag_indices(len(effects))] += self._deviation**-2.0
            step = -np.linalg.solve(square, weighted.T @ error + effects / self._deviation**2)
            step *= min(1.0, _LARGEST_STEP / max(float(np.abs(step).max()), 1e-12))
            for _ in range(_MOST_HALVINGS):
                found = self._cost(effects + step, tpot_rows, ttft_rows)
                if found < cost:
                    break
                step *= 0.5
            else:
                break
            effects, last, cost = effects + step, cost, found
            if last - cost < _ENOUGH * cost:
                break
        return effects

    def _cost(self, effects: FloatColumn, tpot_rows: IntColumn, ttft_rows: IntColumn) -> float:
        error = np.concatenate(self._errors(self._seconds(effects)[0], tpot_rows, ttft_rows))
        return (2.0 * float((np.sqrt(1.0 + error * error) - 1.0).sum())
                + float(((effects / self._deviation)**2).sum()))

    def named(self, effects: FloatColumn, least: float = 0.01) -> Effects:
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
        logs = np.repeat(np.log(np.array(PRIOR))[:, None], len(self._runs), axis=1)
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
        times = self._rates(effects)[:, self._run] * self._parts
        slopes = times.copy()
        seconds = times[4:].sum(axis=0)
        for first, sharpness in ((0, DENSE_SHARPNESS), (2, EXPERT_SHARPNESS)):
            powers = times[first:first + 2]**sharpness
            total = np.maximum(powers.sum(axis=0), 1e-300)
            joined = total**(1.0 / sharpness)
            seconds = seconds + joined
            slopes[first:first + 2] = joined * powers / total
        return seconds, slopes

    def _totals(self, seconds: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
        return (self._sum(self._tpot_weights * seconds),
                self._sum(self._ttft_weights * seconds) + self._rest_s)

    def _errors(self, seconds: FloatColumn, tpot_rows: IntColumn,
                ttft_rows: IntColumn) -> tuple[FloatColumn, FloatColumn]:
        """Return logarithms of predicted over measured, in standard deviations."""
        tpot_s, ttft_s = self._totals(seconds)
        return (np.log(tpot_s[tpot_rows] / self._tpot_s[tpot_rows]) / _SPREAD,
                np.log(ttft_s[ttft_rows] / self._ttft_s[ttft_rows])
                / self._ttft_spread[ttft_rows])

    def _errors_and_slopes(self, effects: FloatColumn, tpot_rows: IntColumn,
                           ttft_rows: IntColumn) -> tuple[FloatColumn, Any]:
        """Return the errors, and their slopes in the effects, a sparse matrix."""
        from scipy.sparse import vstack  # type: ignore[import-untyped]

        seconds, slopes = self._seconds(effects)
        matrices: list[Any] = []
        for weights, total, rows, spread in zip(
                (self._tpot_weights, self._ttft_weights), self._totals(seconds),
                (tpot_rows, ttft_rows), (np.full(len(self._runs), _SPREAD), self._ttft_spread),
                strict=True):
            slope = np.stack([self._sum(weights * one)[rows] for one in slopes]) / total[rows]
            matrices.append(self._design(slope / spread[rows], rows))
        return (np.concatenate(self._errors(seconds, tpot_rows, ttft_rows)),
                vstack(matrices).tocsr())

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
