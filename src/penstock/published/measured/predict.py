"""The prediction of a measured point: its fleet simulated under its own load."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.core.step import StepFeatures
from penstock.fleet.replica_factory import step_time
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.published.measured.express import Expressed, NotExpressedError, express
from penstock.published.measured.rows import Measured
from penstock.sim.simulation import simulate

METRICS = ("ttft_s", "tpot_s", "output_tok_per_s")
_TYPICAL = StepFeatures(0, 0.0, 8, 8 * 1024)


class Interval(NamedTuple):
    """A predicted value with its 90 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Predicted:
    """Prediction of a point, by metric; empty where the point is ``not_expressed``, for a reason.
    ``family`` is the group of the tolerances, ``group`` a finer one for readers."""

    metrics: Mapping[str, Interval] = field(default_factory=dict)
    family: str = ""
    group: str = ""
    not_expressed: str = ""


def predict(row: Measured) -> Predicted:
    """Return the prediction of a point, or why there is none."""
    try:
        point = express(row)
        table = simulate(point.fleet, point.workload).table
    except (NotExpressedError, InputError) as error:
        return Predicted(not_expressed=str(error))
    spread = _spread(point)
    metrics = {name: Interval(value, value / (1.0 + spread), value * (1.0 + spread))
               for name, value in _observed(table, median=row.is_median).items()}
    accelerator = point.group.accelerator
    kind = "mixture" if point.group.model.num_experts else "dense"
    return Predicted(
        metrics, "amd" if accelerator.vendor == "amd" else f"{accelerator.vendor} {kind}",
        f"{accelerator.name}, {kind}, {point.engine}")


def _spread(point: Expressed) -> float:
    """Return the relative error that the step times of the point state for a small batch."""
    step = step_time(point.group).predict(_TYPICAL)
    return step.high_s / step.total_s - 1.0


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
