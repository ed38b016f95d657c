"""Both sides of a measured point, prompts and answers computed apart, as runs for the fit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from penstock.fleet.speculation import target_and_draft
from penstock.fleet.values import ReplicaGroup
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.table import RequestTable
from penstock.perf.speculation.step_time import wider
from penstock.perf.step_time.joint_fit import Run, Sum
from penstock.perf.step_time.terms import units
from penstock.published.measured.express import Expressed
from penstock.published.measured.kinds import kinds, seen_by_statistic
from penstock.published.measured.rows import Measured
from penstock.sim.simulation import simulate

_SLOWER = 1.1  # steps of the second simulation, over those of the first
_LEAST_POWER, _LARGEST_POWER = 0.1, 6.0


class _Steps(NamedTuple):
    """Steps of one side by kind: mean features (prompt tokens, pairs, decodes, context tokens), and
    the weight of each kind in the measured time."""

    features: tuple[FloatColumn, ...]
    weights: FloatColumn


def observe_sides(row: Measured, point: Expressed, table: RequestTable,
                  steps: Sequence[FloatColumn]) -> Iterator[Run]:
    """Yield the run of the replicas that prefill, by the time to first token, and that of those
    that decode, by the time per output token."""
    if row.ttft_s:
        run = _prefill_run(row, point, table, steps[:point.fleet.replicas[0].count])
        if run is not None:
            yield run
    if row.tpot_s:
        yield decode_run(row, point, row.tpot_s)


def _prefill_run(row: Measured, point: Expressed, table: RequestTable,
                 steps: Sequence[FloatColumn]) -> Run | None:
    """Return the run of the replicas that prefill, None where steps of prompts hardly matter.

    Times to first token grow faster than steps where prompts queue. A second simulation with slower
    steps tells how fast, as a power: the step times that explain the row, and how much an error of
    theirs counts.
    """
    seen = seen_by_statistic(row, table)
    prefill, *others = point.fleet.replicas
    spec = prefill.step_time
    assert isinstance(spec, dict), "points have step times of kind measured"
    slow = replace(prefill, step_time={**spec, "factor": _SLOWER})
    again = simulate(replace(point.fleet, replicas=(slow, *others)), point.workload).table
    ttft_s = float(np.mean(seen.ttft_s))
    slower_s = float(np.mean(seen_by_statistic(row, again).ttft_s))
    power = min(_LARGEST_POWER, np.log(slower_s / ttft_s) / np.log(_SLOWER))
    if power < _LEAST_POWER:
        return None
    waited, spent_s = _waited(seen, table, steps)
    wanted_s = spent_s * ((row.ttft_s or ttft_s) / ttft_s)**(1.0 / power)
    return _side(point, prefill, waited, 0.0, wanted_s, is_ttft=True, trust=power)


def decode_run(row: Measured, point: Expressed, tpot_s: float) -> Run:
    """Return the run of the replicas that decode. With drafts, a turn verifies those of each decode
    in one step, and the passes of the draft are known."""
    decode = point.fleet.replicas[-1]
    steady, rest_s = _steady(row, point, decode), 0.0
    if decode.speculation is not None:
        depth = decode.speculation.depth.tokens
        target, draft = target_and_draft(decode)
        _, _, batch, context = steady.features
        share = steady.weights / decode.speculation.acceptance_of("").tokens_per_turn(depth)
        rest_s = sum(one * draft.seconds(depth, round(seqs), round(tokens)) for one, seqs, tokens in
                     zip(share.tolist(), batch.tolist(), context.tolist(), strict=True))
        none = np.zeros(len(batch))
        steady = _Steps((none, none, batch * (depth + 1), context * wider(target, depth)), share)
    return _side(point, decode, steady, rest_s, tpot_s, is_ttft=False)


def _waited(seen: RequestTable, table: RequestTable,
            steps: Sequence[FloatColumn]) -> tuple[_Steps, float]:
    """Return the steps of prompts, and the mean time in them. A step is weighted by the requests
    per replica at work that wait for a prompt then, over all requests. Requests have left a replica
    when as many tokens as they have are computed."""
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
    weights = weights * share
    kind, chosen = kinds(all_of)
    count = len(chosen)
    num = all_of[:, 2]
    features = tuple(np.bincount(kind, all_of[:, at] * num, count) / np.bincount(kind, num, count)
                     for at in (3, 4, 5, 6))
    found = _Steps(features, np.zeros(count) + np.bincount(kind, weights, count))
    return found, float((weights * (all_of[:, 1] - all_of[:, 0])).sum())


def _steady(row: Measured, point: Expressed, decode: ReplicaGroup) -> _Steps:
    """Return the steps that a decode sees, by the number of decodes in them.

    The row's own times tell how many clients decode at once (Little's law). Workers share them
    evenly, each within its seats. A simulation with rates that are still to be found would have
    other batches.
    """
    work = point.workload
    prompt, output = float(work.prompt_tokens.mean()), float(work.output_tokens.mean())
    answer_s = (output - 1.0) * (row.tpot_s or 0.0)
    decoding = (row.load_value or 1.0) * answer_s / (answer_s + (row.ttft_s or 0.0))
    seats = decode.schedule.max_num_seqs if decode.schedule is not None else np.inf
    mean = max(1.0, decoding / decode.count)
    batch = np.unique(np.minimum([np.floor(mean), np.ceil(mean)], seats))
    # Of all decodes, those on the workers with one more.
    more = (mean - batch[0]) * batch[-1] / mean if len(batch) > 1 else 0.0
    none = np.zeros(len(batch))
    return _Steps((none, none, batch, batch * (prompt + output / 2.0)),
                  np.array([1.0 - more, more])[:len(batch)])


def _side(point: Expressed, group: ReplicaGroup, found: _Steps, rest_s: float,
          measured_s: float, *, is_ttft: bool, trust: float = 1.0) -> Run:
    unit = units(group.model, group.accelerator, group.parallelism, group.precision,
                 group.kv_precision)
    known = Sum(found.weights, rest_s, measured_s, trust)
    nothing = Sum(np.zeros(len(found.weights)), 0.0, np.nan)
    return Run(point.deployment(group), unit.parts(*found.features), nothing if is_ttft else known,
               known if is_ttft else nothing, nothing)
