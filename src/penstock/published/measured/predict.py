"""The prediction of a measured point: its fleet simulated under its own load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.measured import family
from penstock.perf.step_time.rate_table import fitted_rates
from penstock.published.measured.express import express
from penstock.published.measured.names import NotExpressedError
from penstock.published.measured.rows import Measured
from penstock.sim.simulation import simulate

DRAFTED = "speculative decoding"
"""Family of points with drafts, whatever their accelerator: no rates were fitted on them."""
APART = "prefill and decode apart"
"""Family of points whose prompts and answers were computed apart."""

STATED, INFERRED = "stated", "inferred"

METRICS = ("ttft_s", "tpot_s", "output_tok_per_s")


class Interval(NamedTuple):
    """A predicted value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """Prediction of a point, by metric; empty where the point is ``not_expressed``, for a reason.
    ``family`` is the group of the tolerances, ``group`` a finer one for readers. ``workers`` says
    whether the numbers of workers of a point with two sides are stated or inferred."""

    metrics: Mapping[str, Interval] = field(default_factory=dict)
    family: str = ""
    group: str = ""
    not_expressed: str = ""
    workers: str = ""


def predict(row: Measured, rates: Path | None = None) -> Predicted:
    """Return the prediction of a point, or why there is none. ``rates`` is a file of rates in place
    of the shipped ones."""
    try:
        point = express(row)
        fleet = point.fleet if rates is None else _with_rates(point.fleet, rates)
        table = simulate(fleet, point.workload).table
    except (NotExpressedError, InputError) as error:
        return Predicted(not_expressed=str(error))
    group = point.group
    kind, errors = family(group.model, group.accelerator), fitted_rates()
    told = APART if row.disaggregated else DRAFTED if group.speculation else kind
    if row.disaggregated:
        kind = APART
    metrics = {}
    for name, value in _observed(table, median=row.is_median).items():
        left = errors.error(name, kind, point.engine)
        metrics[name] = Interval(value, value * left.low, value * left.high)
    return Predicted(
        metrics, told, f"{group.accelerator.name}, "
        f"{'mixture' if group.model.num_experts else 'dense'}, {point.engine}"
        + (", apart" if row.disaggregated else "")
        + ("" if group.speculation is None else ", drafts"),
        workers="" if not row.disaggregated else INFERRED if point.is_inferred else STATED)


def _with_rates(fleet: Fleet, rates: Path) -> Fleet:
    groups = []
    for group in fleet.replicas:
        assert isinstance(group.step_time, dict), "points have step times of kind measured"
        groups.append(replace(group, step_time={**group.step_time, "rates": str(rates)}))
    return replace(fleet, replicas=tuple(groups))


def _observed(table: RequestTable, *, median: bool) -> dict[str, float]:
    """Return what a load tool would report of the finished requests."""
    done = table.take(table.finished)
    if not len(done):
        return {}
    middle: Callable[[FloatColumn], Any] = np.median if median else np.mean
    span_s = float(done.last_token_s.max() - done.arrival_s.min())
    found = {"ttft_s": float(middle(done.ttft_s)),
             "output_tok_per_s": float(done.output_tokens.sum()) / span_s}
    several = done.take(done.output_tokens > 1)
    if len(several):
        found["tpot_s"] = float(middle(several.tpot_s))
    return found
