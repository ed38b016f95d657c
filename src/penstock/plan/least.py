"""The least that any schedule needs for a demand: a proven bound on accelerators and cost.

A request takes at least so many seconds of a replica, however it is batched. In any span of time,
the requests that arrive and are due in it take these seconds within the span. This is the
processor demand criterion of real-time scheduling (Baruah, Rosier and Howell, 1990). Requests that
an objective allows to miss are left out, the largest first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.values import Fleet
from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.perf.step_time.protocol import StepTimeModel
from penstock.plan.bound import MAX_STEP_TOKENS
from penstock.plan.demands import Demand
from penstock.plan.estimate import believed_step_time
from penstock.plan.judge import distinct
from penstock.plan.propose import current_groups
from penstock.plan.variants import Variant, variants_of
from penstock.workload.workload import Workload

_NUM_STARTS = 48
_ROUNDING = 1e-9
# The support of a step's time is checked on a grid. Between its points, at most 12 % apart, a step
# of a mixture may be a little faster.
_BETWEEN = 0.98


@dataclass(frozen=True, slots=True)
class Least:
    """Accelerators, and money per hour, without which no schedule keeps a demand's objectives.

    They hold for the step times that the plan believes and for steps of up to ``MAX_STEP_TOKENS``.
    ``span_s`` is the length of the span that decides, and ``binds`` the work that is due in it:
    ``prompts`` or ``tokens``.
    """

    accelerators: float
    cost_per_hour: float
    span_s: float
    binds: str


@dataclass(frozen=True, slots=True)
class _Work:
    """Work of a workload's requests that is due, shape (requests,): tokens, and times in seconds.

    ``contexts`` are the tokens whose keys a request's decodes read, over all of its steps.
    """

    prompts: FloatColumn
    decodes: FloatColumn
    contexts: FloatColumn
    first_due_s: FloatColumn
    last_due_s: FloatColumn


def least_needed(fleet: Fleet, demand: Demand) -> Least | None:
    """Return the bound of a demand, over its seeds and all variants that hold the model.

    None where a variant's step time is not affine in work and context, or takes no time, where
    requests share prefixes that a cache keeps, and where nothing is due.
    """
    variants, _ = variants_of(fleet, demand.model, demand.longest_tokens,
                              current_groups(fleet, demand), confidential=demand.confidential)
    found = [least for workload in distinct(demand.workloads)
             if (least := _of_workload(fleet, demand, workload, variants)) is not None]
    return max(found, key=lambda least: (least.accelerators, least.cost_per_hour), default=None)


def _of_workload(fleet: Fleet, demand: Demand, workload: Workload,
                 variants: Sequence[Variant]) -> Least | None:
    work = _due_work(demand, workload)
    costs = [_seconds(fleet, variant, workload, work) for variant in variants]
    known = [cost for cost in costs if cost is not None]
    if not known or len(known) < len(costs):
        return None
    sizes = np.array([[variant.group.num_accelerators] for variant in variants], dtype=np.float64)
    prices = np.array([[variant.cost_per_hour] for variant in variants])
    best: Least | None = None
    for binds, place, due_s in (("prompts", 0, work.first_due_s), ("tokens", 1, work.last_due_s)):
        seconds = np.array([cost[place] for cost in known])
        number, span_s = _busiest(demand, workload, due_s, (seconds * sizes).min(axis=0))
        money, _ = _busiest(demand, workload, due_s, (seconds * prices).min(axis=0))
        least = Least(_whole(number, sizes), _whole(money, prices), span_s, binds)
        if number > 0.0 and (best is None or _rank(least) > _rank(best)):
            best = least
    return best


def _whole(amount: float, each: FloatColumn) -> float:
    """Return the amount as that of whole replicas, where all are multiples of the smallest."""
    unit = float(each.min())
    if unit <= 0.0 or np.any(np.abs(each / unit - np.round(each / unit)) > _ROUNDING):
        return amount
    return ceil(amount / unit - _ROUNDING) * unit


def _rank(least: Least) -> tuple[float, float]:
    return least.accelerators, least.cost_per_hour


def _due_work(demand: Demand, workload: Workload) -> _Work:
    """Return the work that the targets of the demand's classes make due.

    Of a paced request, tokens that may be late are left out. A gap that may be late may be long,
    so a strict request with such a gap has no last token that is due. A mean gap within its target
    ends a request no later than gaps that are all within it.
    """
    num = len(workload)
    prompts = workload.prompt_tokens.astype(np.float64)
    decodes = np.maximum(workload.output_tokens - 1, 0)
    first_s, last_s = np.full(num, inf), np.full(num, inf)
    for service_class, rows in _class_rows(demand, workload):
        slo, arrival_s = service_class.slo, workload.arrival_s[rows]
        if slo.ttft_s is not None:
            first_s[rows] = arrival_s + slo.ttft_s
        if slo.e2e_s is not None:
            last_s[rows] = arrival_s + slo.e2e_s
        elif slo.ttft_s is not None and slo.itl_s is not None:
            paced = slo.itl == "paced"
            late = np.array([slo.late_allowance(int(tokens) + paced)
                             for tokens in decodes[rows]], dtype=np.int64)
            if paced:
                decodes[rows] -= np.minimum(late, decodes[rows])
            last_s[rows] = first_s[rows] + slo.itl_s * decodes[rows]
            if not paced:
                last_s[rows[late > 0]] = inf
    read = decodes * (prompts + (decodes + 1.0) / 2.0)
    return _Work(prompts, decodes.astype(np.float64), read, np.minimum(first_s, last_s), last_s)


def _class_rows(demand: Demand, workload: Workload) -> Iterator[tuple[ServiceClass, IntColumn]]:
    for service_class in demand.classes:
        if service_class.name in workload.service_classes:
            index = workload.service_classes.index(service_class.name)
            yield service_class, np.flatnonzero(workload.class_index == index)


def _seconds(fleet: Fleet, variant: Variant, workload: Workload, work: _Work
             ) -> tuple[FloatColumn, FloatColumn] | None:
    """Return the least seconds of a replica for each prompt, and for each whole request."""
    model = believed_step_time(fleet, variant)
    slopes = model.slopes
    if slopes is None or variant.group.speculation is not None or (
            fleet.engine_of(variant.group).prefix_caching and len(workload.hash_values)):
        return None
    own_s = slopes.work_s * work.prompts * work.prompts / 2.0
    prompt_token_s = min(model.seconds(size, 0.0, 0, 0) / size for size in _sizes())
    prompt_s, decode_s, context_s = _support(model, work, kv_tokens(fleet, variant.group),
                                             variant.group.model.max_context_tokens)
    return (_BETWEEN * prompt_token_s * work.prompts + own_s,
            _BETWEEN * (prompt_s * work.prompts + decode_s * work.decodes
                        + context_s * work.contexts) + own_s + slopes.context_s * work.contexts)


def _support(model: StepTimeModel, work: _Work, room_tokens: int,
             longest_tokens: int) -> tuple[float, float, float]:
    """Return seconds of a prompt token, a decode and a token of context that no step beats.

    Every step of p prompt tokens, d decodes and k tokens of context takes base(p, d) >= a p + b d +
    c k, where the KV cache limits k. Of all such (a, b, c), a linear program finds those that give
    the demand's tokens the most time.
    """
    from scipy.optimize import linprog  # type: ignore[import-untyped]

    totals = np.array([column.sum() for column in (work.prompts, work.decodes, work.contexts)])
    steps = list(_steps())
    rows = [[prompt, decode, min(room_tokens, decode * longest_tokens)] for prompt, decode in steps]
    limits = [model.seconds(prompt, 0.0, decode, 0) for prompt, decode in steps]
    found = linprog(-totals / max(totals.sum(), 1.0), A_ub=np.array(rows), b_ub=np.array(limits),
                    bounds=[(0.0, None)] * 3)
    a, b, c = found.x.tolist() if found.success else (0.0, 0.0, 0.0)
    return a, b, c


def _sizes() -> list[int]:
    return [int(size) for size in np.unique(np.geomspace(1, MAX_STEP_TOKENS, 100).astype(int))]


def _steps() -> Iterator[tuple[int, int]]:
    """Steps of every size, with no decodes to nothing else."""
    for size in _sizes():
        for decodes in sorted({round(size * share) for share in np.linspace(0.0, 1.0, 17)}):
            yield size - decodes, decodes


def _busiest(demand: Demand, workload: Workload, due_s: FloatColumn,
             weights: FloatColumn) -> tuple[float, float]:
    """Return the most weight that is due in a span, per second of the span, and the span's length.

    An objective lets some requests of its class miss. No such requests weigh more than the heaviest
    of the class do, which are taken off every span.
    """
    missing = 0.0
    for service_class, rows in _class_rows(demand, workload):
        number = int(service_class.slo.allowed_misses * len(rows) + _ROUNDING)
        missing += float(np.sort(weights[rows])[len(rows) - number:].sum())
    order = np.flatnonzero(np.isfinite(due_s))
    order = order[np.argsort(due_s[order], kind="stable")]
    arrival_s, due_s, weights = workload.arrival_s[order], due_s[order], weights[order]
    best, span_s = 0.0, 0.0
    for start_s in np.unique(np.quantile(workload.arrival_s, np.linspace(0.0, 0.98, _NUM_STARTS))):
        later = arrival_s >= start_s
        if not later.any():
            continue
        spans_s = due_s[later] - start_s
        rates = (np.cumsum(weights[later]) - missing) / spans_s
        place = int(np.argmax(rates))
        if rates[place] > best:
            best, span_s = float(rates[place]), float(spans_s[place])
    return best, span_s
