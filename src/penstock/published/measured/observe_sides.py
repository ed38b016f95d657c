"""Both sides of a measured point, prompts and answers computed apart, as runs for the fit."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from penstock.fleet.values import ReplicaGroup
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.perf.step_time.joint_fit import Run, Sum
from penstock.perf.step_time.terms import units
from penstock.published.measured.express import Expressed
from penstock.published.measured.kinds import decoding, kinds, seen_by_statistic
from penstock.published.measured.rows import Measured


class _Steps(NamedTuple):
    """Kinds of steps of one side, and the weight of each run of steps."""

    steps: FloatColumn
    weights: FloatColumn


def observe_sides(row: Measured, point: Expressed, table: RequestTable,
                  steps: Sequence[FloatColumn]) -> Iterator[Run]:
    """Yield the run of the replicas that prefill, by the time to first token, and that of those
    that decode, by the time per output token. Runs with drafts yield the first alone."""
    prefill, decode = point.fleet.replicas
    first, second = steps[:prefill.count], steps[prefill.count:]
    if row.ttft_s:
        seen = seen_by_statistic(row, table)
        waited = _waited(seen, table, first)
        spent_s = float((waited.weights * (waited.steps[:, 1] - waited.steps[:, 0])).sum())
        rest_s = max(0.0, float(np.mean(seen.ttft_s)) - spent_s)
        yield _side(point, prefill, waited, rest_s, row.ttft_s, is_ttft=True)
    several = table.take(table.output_tokens > 1)
    if row.tpot_s and decode.speculation is None and len(several):
        yield _side(point, decode, _decoded(several, second), 0.0, row.tpot_s, is_ttft=False)


def _waited(seen: RequestTable, table: RequestTable, steps: Sequence[FloatColumn]) -> _Steps:
    """Return the steps of prompts, each weighted by the requests per replica at work that wait for
    a prompt then, over all requests. Requests have left a replica when as many tokens as they have
    are computed."""
    all_of = np.concatenate(steps)
    order = np.argsort(all_of[:, 1])
    done = np.cumsum((all_of[:, 3] * all_of[:, 2])[order]) / float(table.prompt_tokens.mean())
    middle_s = (all_of[:, 0] + all_of[:, 1]) / 2.0
    past = np.searchsorted(all_of[order, 1], middle_s, "right")
    ended = np.where(past > 0, done[np.maximum(past - 1, 0)], 0.0)
    waiting = np.searchsorted(np.sort(table.arrival_s), middle_s, "right") - ended
    at_work = sum((np.searchsorted(one[:, 0], middle_s, "right")
                   - np.searchsorted(one[:, 1], middle_s, "right") for one in steps),
                  np.zeros(len(middle_s)))
    weights = np.maximum(waiting, 0.0) / np.maximum(at_work, 1.0) / len(table)
    # Around the median, requests wait for less than the mean.
    share = float(np.mean(seen.ttft_s)) / max(float(np.mean(table.ttft_s)), 1e-9)
    return _Steps(all_of, weights * share)


def _decoded(several: RequestTable, steps: Sequence[FloatColumn]) -> _Steps:
    """Return the steps of answers, weighted by the share of a token gap of the replica's own
    requests."""
    all_of = np.concatenate(steps)
    middle_s = (all_of[:, 0] + all_of[:, 1]) / 2.0
    shares = decoding(several, middle_s)
    running = np.searchsorted(np.sort(several.first_token_s), middle_s, "right") \
        - np.searchsorted(np.sort(several.last_token_s), middle_s, "right")
    own = shares * all_of[:, 5] / np.maximum(running, all_of[:, 5]).clip(1.0)
    return _Steps(all_of, own * all_of[:, 2] / len(several))


def _side(point: Expressed, group: ReplicaGroup, found: _Steps, rest_s: float,
          measured_s: float, *, is_ttft: bool) -> Run:
    steps = found.steps
    kind, chosen = kinds(steps)
    count = len(chosen)
    total = np.bincount(kind, steps[:, 2], count)
    features = [np.bincount(kind, steps[:, at] * steps[:, 2], count) / total
                for at in (3, 4, 5, 6)]
    unit = units(group.model, group.accelerator, group.parallelism, group.precision,
                 group.kv_precision)
    known = Sum(np.zeros(count) + np.bincount(kind, found.weights, count), rest_s, measured_s)
    nothing = Sum(np.zeros(count), 0.0, np.nan)
    return Run(point.deployment(group), unit.parts(*features), nothing if is_ttft else known,
               known if is_ttft else nothing, nothing)
