"""The shipped rates of a deployment, corrected by its own points.

Two logarithms are unknown: how much longer all steps take than predicted, and how much longer still
the parts that compute prompts do. The errors of the shipped rates on curves left out of their fit
are the prior (normal). Simulations with slower rates tell how much either moves the times of each
point. The posterior of this linear model goes on the rates of the deployment's chip with its
engine.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.metrics.definitions import FloatColumn
from penstock.perf.step_time.rate_table import Deployment, Errors, RateTable
from penstock.perf.step_time.terms import Rates
from penstock.published.measured.express import express
from penstock.published.measured.predict import Predicted, predict
from penstock.published.measured.rows import Measured

METRICS = ("tpot_s", "ttft_s")
_OF_PROMPTS = ("dense_flops", "expert_flops", "prompt_attention", "elementwise", "prompt_layer_s",
               "prompt_step_s")
_SIGMAS = 1.645  # an interval of 90 % reaches so far
_PRIOR_POINTS = 4.0  # weight of the assumed scatter, in points
_SLOWER = 0.1  # logarithm by which rates are moved to see what follows
_LARGEST_SLOPE = 6.0  # beyond it requests queue, and times tell little of steps


class Shift(NamedTuple):
    """Logarithms by which rates move: all of them, and those of prompts on top."""

    steps: float = 0.0
    prompts: float = 0.0


class Interval(NamedTuple):
    """Half-widths of the 90 % interval of a predicted time, before and after the correction."""

    before: float
    after: float


class OwnPoint(NamedTuple):
    """A measured time of a point, as the shipped and as the corrected rates predict it."""

    row: Measured
    metric: str
    measured_s: float
    shipped_s: float
    corrected_s: float


@dataclass(frozen=True, slots=True)
class Correction:
    """Correction of the shipped step times of a deployment by its own points.

    ``factor`` is on all parts of step times, ``prompt_factor`` on those of prompts besides.
    ``intervals`` are of predicted times, by metric; a metric without points has none.
    """

    factor: float
    prompt_factor: float
    intervals: Mapping[str, Interval]
    points: tuple[OwnPoint, ...]
    document: Mapping[str, Any]


class _Seen(NamedTuple):
    """A measured time of the point at a ``place``: its logarithm over the predicted one, and the
    slopes of that prediction in the logarithms of ``Shift``."""

    place: int
    metric: str
    measured_s: float
    predicted_s: float
    slopes: FloatColumn

    @property
    def error(self) -> float:
        return log(self.measured_s / self.predicted_s)


def corrected(rows: Sequence[Measured], table: RateTable) -> Correction:
    """Correct the shipped rates of a deployment by its own points. No rate passes its bound.

    The scatter of a metric is that of its points, with an assumed half of the prior counting as
    ``_PRIOR_POINTS`` points. Raises InputError where no point can be simulated.
    """
    shipped = [predict(row) for row in rows]
    known = [(row, one) for row, one in zip(rows, shipped, strict=True)
             if any(metric in one.metrics and getattr(row, metric) for metric in METRICS)]
    if not known:
        raise InputError(f"{rows[0].file}: no point can be simulated "
                         f"({shipped[0].not_expressed or 'no TPOT or TTFT'})")
    point, family = express(known[0][0]), known[0][1].family
    of = point.deployment(point.group)
    errors = {metric: table.error(metric, family, of.engine) for metric in METRICS}
    prior = {metric: _deviation(found) for metric, found in errors.items()}
    seen = _seen(known, table, of)
    scatter = {metric: _scatter([one.error for one in seen if one.metric == metric], prior[metric])
               for metric in METRICS}
    mean, spread = _posterior(seen, scatter, np.array([prior[metric] for metric in METRICS]))
    shift = Shift(*mean.tolist())
    left = {metric: _left(seen, metric, spread, scatter[metric], prior[metric])
            for metric in {one.metric for one in seen}}
    document = _moved(table, of, shift)
    document["source"] = f"{table.source}; corrected by {len(known)} own points"
    for metric, sigmas in left.items():
        reach = exp(_SIGMAS * sigmas)
        document["errors"][metric][f"{family}, {of.engine}"] = [1.0 / reach, reach]
    after = _predictions([row for row, _ in known], document)
    return Correction(
        exp(shift.steps), exp(shift.prompts),
        {metric: Interval(exp(_SIGMAS * prior[metric]) - 1.0, exp(_SIGMAS * left[metric]) - 1.0)
         for metric in METRICS if metric in left},
        tuple(OwnPoint(known[one.place][0], one.metric, one.measured_s, one.predicted_s,
                       after[one.place].metrics[one.metric].value) for one in seen), document)


def _deviation(errors: Errors) -> float:
    return max(log(errors.high), -log(errors.low)) / _SIGMAS


def _scatter(errors: Sequence[float], prior: float) -> float:
    """Return the standard deviation of a metric's points around their mean."""
    squares = len(errors) * float(np.var(errors)) if errors else 0.0
    return sqrt((_PRIOR_POINTS * (prior / 2.0)**2 + squares)
                / (_PRIOR_POINTS + max(len(errors), 1) - 1.0))


def _posterior(seen: Sequence[_Seen], scatter: Mapping[str, float],
               prior: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Return mean and covariance of ``Shift``. A point whose times grow faster than its steps
    scatters as much more."""
    precision, weighted = np.diag(1.0 / prior**2), np.zeros(len(prior))
    for one in seen:
        noise = scatter[one.metric] * max(1.0, float(one.slopes.sum()))
        precision += np.outer(one.slopes, one.slopes) / noise**2
        weighted += one.slopes * one.error / noise**2
    covariance = np.linalg.inv(precision).astype(np.float64)
    return covariance @ weighted, covariance


def _left(seen: Sequence[_Seen], metric: str, covariance: FloatColumn, scatter: float,
          prior: float) -> float:
    """Return the standard deviation that is left of a metric's predictions, at the mean slopes of
    its points."""
    slopes = np.mean([one.slopes for one in seen if one.metric == metric], axis=0)
    return min(prior, sqrt(float(slopes @ covariance @ slopes) + scatter**2))


def _seen(known: Sequence[tuple[Measured, Predicted]], table: RateTable,
          of: Deployment) -> list[_Seen]:
    """Return the measured times of points, with the slopes of their predictions."""
    slower = [_predictions([row for row, _ in known], _moved(table, of, shift))
              for shift in (Shift(steps=_SLOWER), Shift(prompts=_SLOWER))]
    found = []
    for place, (row, shipped) in enumerate(known):
        for metric in METRICS:
            measured_s = getattr(row, metric)
            if not measured_s or metric not in shipped.metrics:
                continue
            value = shipped.metrics[metric].value
            slopes = np.array([log(moved[place].metrics[metric].value / value) / _SLOWER
                               for moved in slower])
            found.append(_Seen(place, metric, measured_s, value,
                               np.clip(slopes, 0.0, _LARGEST_SLOPE)))
    return found


def _predictions(rows: Sequence[Measured], document: Mapping[str, Any]) -> list[Predicted]:
    """Return the predictions of points by the rates of a document."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rates.json"  # which is YAML, and sooner written
        path.write_text(json.dumps(document), encoding="utf-8")
        return [predict(row, path) for row in rows]


def _moved(table: RateTable, of: Deployment, shift: Shift) -> dict[str, Any]:
    """Return a table as a document, with the rates of a deployment moved from where they are, which
    may be at their bounds."""
    document = table.document()
    key = of.key("chip+engine")
    bounded, fitted = table.rates(of), table.unbounded(of)
    for name in Rates._fields:
        keys = document["effects"].setdefault(name, {}).setdefault("chip+engine", {})
        keys[key] = (keys.get(key, 0.0) + log(getattr(bounded, name) / getattr(fitted, name))
                     + shift.steps + (shift.prompts if name in _OF_PROMPTS else 0.0))
    return document
