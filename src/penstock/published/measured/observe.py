"""A measured point as a run for the fit of rates: its simulation's steps and their weights."""

import numpy as np

from penstock.core.errors import InputError
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.joint_fit import Run, Sum
from penstock.perf.step_time.terms import units
from penstock.published.measured.express import (
    Expressed,
    express,
    is_nvidia_sweep,
)
from penstock.published.measured.kinds import decoding, kinds, seen_by_statistic
from penstock.published.measured.names import NotExpressedError
from penstock.published.measured.observe_sides import observe_sides
from penstock.published.measured.rows import Measured
from penstock.sim.simulation import simulate

# Lengths, statistic and number of requests of NVIDIA's own sweeps are not stated.
_SWEEP_TRUST = 0.5
# Part of a closed loop's clients that must have a request in flight.
_LEAST_IN_FLIGHT = 0.4


def observe(row: Measured) -> tuple[Run, ...]:
    """Return the runs of a point: one, or one for each side where prompts and answers were computed
    apart. None for a point that cannot be expressed, has several replicas of one kind, has neither
    a time per output token nor a throughput, or contradicts itself."""
    if _contradicts_itself(row):
        return ()
    try:
        point = express(row)
        result = simulate(point.fleet, point.workload, log_steps=True)
    except (NotExpressedError, InputError):
        return ()
    table = result.table
    if not table.finished.all():
        return ()
    if row.disaggregated:
        return tuple(observe_sides(row, point, table, result.steps))
    several = table.take(table.output_tokens > 1)
    whole_s = _whole_s(row, table)
    if len(result.steps) > 1 or not len(several) or not (row.tpot_s or np.isfinite(whole_s)):
        return ()
    return (_run(row, point, table, several, result.steps[0], whole_s),)


def _contradicts_itself(row: Measured) -> bool:
    """Whether a closed loop's throughput says that far fewer requests were in flight than it had
    clients (Little's law): the load tool could not keep up."""
    if row.load_kind != "concurrency" or not (row.output_tok_per_s and row.tpot_s and row.ttft_s):
        return False
    answer_s = row.ttft_s + ((row.osl or 1.0) - 1.0) * row.tpot_s
    in_flight = row.output_tok_per_s / (row.osl or 1.0) * answer_s
    return in_flight < _LEAST_IN_FLIGHT * (row.load_value or 1.0)


def _whole_s(row: Measured, table: RequestTable) -> float:
    """Return the time in which requests that came at once were answered, NaN for other loads."""
    if row.load_kind not in ("burst", "batch") or not row.output_tok_per_s:
        return np.nan
    return float(table.output_tokens.sum()) / row.output_tok_per_s


def _run(row: Measured, point: Expressed, table: RequestTable, several: RequestTable,
         steps: FloatColumn, whole_s: float) -> Run:
    middle_s = (steps[:, 0] + steps[:, 1]) / 2.0
    num_steps = steps[:, 2]
    seen = seen_by_statistic(row, table)
    waiting = (np.searchsorted(np.sort(seen.arrival_s), middle_s, "right")
               - np.searchsorted(np.sort(seen.first_token_s), middle_s, "right"))
    kind, chosen = kinds(steps)
    count = len(chosen)
    total: FloatColumn = np.zeros(count) + np.bincount(kind, num_steps, count)
    features = [np.bincount(kind, steps[:, at] * num_steps, count) / total for at in (3, 4, 5, 6)]
    group = point.group
    unit = units(group.model, group.accelerator, group.parallelism, group.precision,
                 group.kv_precision)
    spent_s = float((waiting * (steps[:, 1] - steps[:, 0])).sum()) / len(seen)
    gaps = decoding(several, middle_s) * num_steps
    closed = row.load_kind == "concurrency"
    return Run(
        point.deployment(group), unit.parts(*features),
        Sum(np.bincount(kind, gaps, count) / len(several), 0.0, row.tpot_s or np.nan),
        Sum(np.bincount(kind, waiting * num_steps, count) / len(seen),
            max(0.0, float(np.mean(seen.ttft_s)) - spent_s), (closed and row.ttft_s) or np.nan,
            _SWEEP_TRUST if is_nvidia_sweep(row) else 1.0),
        Sum(total, 0.0, whole_s))
