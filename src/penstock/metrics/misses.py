"""Missed targets: their number by class, and for each request the stage that missed its target."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.definitions import (
    BoolColumn,
    FloatColumn,
    IntColumn,
    keeps_pace,
    within,
)
from penstock.metrics.table import REJECTED, SHED, UNFINISHED, RequestTable

CAUSES: Final = ("rejected", "shed", "unfinished", "queueing", "prefill", "first token",
                 "preemption", "decode")
QUEUEING, PREFILL, FIRST_TOKEN, PREEMPTION, DECODE = range(3, 8)
MET: Final = -1
_OF_STATUS = {REJECTED: 0, SHED: 1, UNFINISHED: 2}


@dataclass(frozen=True, slots=True)
class Misses:
    """Why each request of a table missed, and by how much; columns of the table's length.

    ``cause`` points into CAUSES, or is MET. ``times_target`` is the largest ratio of a latency to
    the target that it missed: infinite for requests that did not finish, 0 for those that met.
    """

    cause: IntColumn
    times_target: FloatColumn

    def worst(self, most: int) -> IntColumn:
        """Rows of the worst misses, the worst first.

        At most a third of the rows did not finish, because nothing ranks those among each other.
        """
        unserved = np.flatnonzero(np.isinf(self.times_target))[:most // 3]
        served = np.flatnonzero((self.cause != MET) & np.isfinite(self.times_target))
        order = np.argsort(-self.times_target[served], kind="stable")
        rows: IntColumn = np.concatenate((unserved, served[order][:most - len(unserved)]))
        return rows


def misses(table: RequestTable, slos: Mapping[str, Slo]) -> Misses:
    """The misses of a table of requests, whose classes have these objectives."""
    cause = np.full(len(table), MET, dtype=np.int64)
    times = np.zeros(len(table))
    for index, name in enumerate(table.service_classes):
        rows = np.flatnonzero((table.class_index == index) & ~table.met_slo)
        if len(rows) and name in slos:
            cause[rows], times[rows] = _of_class(table.take(rows), slos[name])
    return Misses(cause, times)


def _of_class(table: RequestTable, slo: Slo) -> tuple[IntColumn, FloatColumn]:
    """Causes and ratios of requests that all missed.

    A missed TTFT comes before the targets after it, which the late first token delays, too.
    """
    late_first = ~within(table.ttft_s, slo.ttft_s)
    late_end = ~within(table.e2e_s, slo.e2e_s)
    cause = np.full(len(table), DECODE, dtype=np.int64)
    stages = np.stack([table.queue_s, table.first_token_s - table.first_scheduled_s,
                       table.last_token_s - table.first_token_s])
    unseen = np.isnan(table.first_scheduled_s)  # a live engine shows its first token only
    stages[0, unseen], stages[1, unseen] = table.ttft_s[unseen], 0.0
    stages = np.nan_to_num(stages)
    cause[late_end] = np.array([QUEUEING, PREFILL, DECODE])[stages[:, late_end].argmax(axis=0)]
    cause[late_first] = np.array([QUEUEING, PREFILL])[stages[:2, late_first].argmax(axis=0)]
    cause[(cause != QUEUEING) & (table.num_preemptions > 0)] = PREEMPTION
    cause[(cause == QUEUEING) & unseen] = FIRST_TOKEN
    times = np.fmax(_ratio(table.ttft_s, slo.ttft_s, late_first),
                    _ratio(table.e2e_s, slo.e2e_s, late_end))
    slow = ~keeps_pace(slo, table.output_tokens, table.num_late_tokens)
    gap_s = table.itl_mean_s if slo.itl == "mean" else table.itl_p99_s
    times = np.fmax(times, np.fmax(_ratio(gap_s, slo.itl_s, slow), slow * 1.0))
    for status, place in _OF_STATUS.items():
        cause[table.status == status], times[table.status == status] = place, np.inf
    return cause, times


def _ratio(latency_s: FloatColumn, target_s: float | None, missed: BoolColumn) -> FloatColumn:
    ratio = np.zeros(len(missed))
    if target_s:
        ratio[missed] = latency_s[missed] / target_s
    return ratio


def missed_targets(table: RequestTable, slo: Slo) -> dict[str, int]:
    """Count the requests that missed each stated target, and ``unserved`` ones, which did not
    finish.

    A finished request counts under every target that it missed, so the sum may exceed the misses.
    """
    done = table.take(table.finished)
    missed = {"unserved": len(table) - len(done)}
    if slo.ttft_s is not None:
        missed["ttft_s"] = int((~within(done.ttft_s, slo.ttft_s)).sum())
    if slo.itl_s is not None:
        missed["itl_s"] = int((~keeps_pace(slo, done.output_tokens, done.num_late_tokens)).sum())
    if slo.e2e_s is not None:
        missed["e2e_s"] = int((~within(done.e2e_s, slo.e2e_s)).sum())
    return missed


def late_token_shares(table: RequestTable, slo: Slo) -> FloatColumn:
    """Return late tokens (paced) or gaps (strict, mean) of each finished request / all that count.

    NaN without a pace target or tokens that count. A request keeps its pace exactly when its share
    is at most (100 - percentile) %, or 0 for a mean ITL.
    """
    done = table.take(table.finished)
    num_judged = done.output_tokens - (0 if slo.itl == "paced" else 1)
    judged = (num_judged > 0) & (slo.itl_s is not None)
    shares = np.full(len(done), np.nan)
    shares[judged] = done.num_late_tokens[judged] / num_judged[judged]
    return shares
