"""A run in numbers: per class and overall."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce
from operator import add

from penstock.core.slo import ServiceClass, Slo
from penstock.core.units import SECONDS_PER_HOUR
from penstock.metrics.adapters import adapter_summary
from penstock.metrics.attainment import Attainment, per_second
from penstock.metrics.counts import Counts, Span, counts_of, served_by, span_of
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.misses import late_token_shares
from penstock.metrics.percentiles import percentiles_by_key
from penstock.metrics.run_summary import (
    ClassSummary,
    Cost,
    Latencies,
    Outcome,
    OverallSummary,
    Percentiles,
    ReplicaUse,
    RunSummary,
    TaskSummary,
)
from penstock.metrics.table import Requests, RequestTable
from penstock.metrics.tasks import task_table

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of rates: ``arrival_s`` for arrival rates; ``whole_s``, which lasts until the last
    token, for all others."""

    arrival_s: float
    whole_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Resources that a run used: computing time per replica, and the bill per hour.

    ``busy_s[i]`` is the total duration of replica i's steps, ``replicas[i]`` its number.
    ``held_s`` is the time of all replicas together where they came and went.
    """

    busy_s: FloatColumn
    cost_per_hour: float
    replicas: Sequence[int] = ()
    held_s: float | None = None

    def busy(self, window_s: float) -> float | None:
        """Return the share of the replicas' time spent computing, ``None`` without replicas or
        time."""
        if not len(self.busy_s) or window_s <= 0:
            return None
        held_s = len(self.busy_s) * window_s if self.held_s is None else self.held_s
        return float(self.busy_s.sum()) / held_s if held_s > 0 else None


def summarise(requests: Requests, classes: Sequence[ServiceClass], usage: Usage,
              window_s: float | None = None, from_s: float | None = None) -> RunSummary:
    """The outcome of a run.

    ``window_s`` defaults to the observed window. Requests that arrive before ``from_s`` are left
    out. Cost and busy time of a class are its share of the run's computed tokens (prompt and output
    alike), since replicas serve classes together.
    """
    def blocks() -> Iterator[RequestTable]:
        for block in requests.blocks():
            yield block if from_s is None else block.take(block.arrival_s >= from_s)

    found = reduce(add, (_sums(block, classes, usage) for block in blocks()))
    latencies = _latencies(blocks, classes)
    windows = Windows(found.span.arrival_window_s,
                      found.span.whole_window_s if window_s is None else window_s)
    total_tokens = found.whole.computed_tokens
    tasks = task_table(requests.blocks(), from_s)
    slos = {one.name: one.slo for one in classes}
    by_class = {}
    for service_class, counts in zip(classes, found.by_class, strict=True):
        share = counts.computed_tokens / total_tokens if total_tokens else 0.0
        whole = None if tasks is None else tasks.summary(slos, service_class.name)
        by_class[service_class.name] = ClassSummary(
            priority=service_class.priority, weight=service_class.weight, slo=service_class.slo,
            **vars(_outcome(counts, latencies[service_class.name], windows, usage, share)),
            missed=counts.missed, late_token_share=latencies[service_class.name][_LATE],
            tasks=whole, meets_slo=_meets(counts, whole, service_class.slo))
    verdicts = [entry.meets_slo for entry in by_class.values()]
    overall = OverallSummary(
        **vars(_outcome(found.whole, latencies[None], windows, usage, 1.0)),
        meets_slo=None if all(v is None for v in verdicts) else False not in verdicts,
        tasks=None if tasks is None else tasks.summary(slos))
    return RunSummary(arrival_window_s=windows.arrival_s, window_s=windows.whole_s,
                      overall=overall, classes=by_class, adapters=adapter_summary(blocks),
                      replicas=_replicas(found.served, usage, windows.whole_s))


_LATE = "late_token_share"


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over requests: of all, by class and by replica."""

    span: Span
    whole: Counts
    by_class: tuple[Counts, ...]
    served: tuple[int, ...]

    def __add__(self, other: "_Sums") -> "_Sums":
        return _Sums(self.span + other.span, self.whole + other.whole,
                     tuple(map(add, self.by_class, other.by_class)),
                     tuple(map(add, self.served, other.served)))


def _sums(table: RequestTable, classes: Sequence[ServiceClass], usage: Usage) -> _Sums:
    numbers = _numbers(usage)
    served = served_by(table, 1 + max(numbers, default=-1))
    return _Sums(span_of(table), counts_of(table),
                 tuple(counts_of(table.of_class(one.name), one.slo) for one in classes),
                 tuple(int(served[number]) for number in numbers))


def _latencies(blocks: Callable[[], Iterator[RequestTable]], classes: Sequence[ServiceClass]
               ) -> dict[str | None, dict[str, Percentiles]]:
    """Return the percentiles of each latency by class, and of all requests under None."""
    def columns() -> Iterator[dict[tuple[str | None, str], FloatColumn]]:
        for block in blocks():
            found: dict[tuple[str | None, str], FloatColumn] = {
                (None, name): column for name, column in _columns(block).items()}
            for one in classes:
                rows = block.of_class(one.name)
                found |= {(one.name, name): column for name, column in _columns(rows).items()}
                found[one.name, _LATE] = late_token_shares(rows, one.slo)
            yield found

    by_name: dict[str | None, dict[str, Percentiles]] = {}
    for (class_name, name), value in percentiles_by_key(columns).items():
        by_name.setdefault(class_name, {})[name] = value
    return by_name


def _columns(table: RequestTable) -> dict[str, FloatColumn]:
    """Return latencies: TTFT of every request with a first token, others of finished requests."""
    finished = table.take(table.finished)
    return {"ttft_s": table.ttft_s, "queue_s": table.queue_s, "tpot_s": finished.tpot_s,
            "itl_mean_s": finished.itl_mean_s, "itl_p99_s": finished.itl_p99_s,
            "itl_max_s": finished.itl_max_s, "e2e_s": finished.e2e_s}


def _meets(counts: Counts, tasks: TaskSummary | None, slo: Slo) -> bool | None:
    """Whether enough requests met their targets and, where tasks have one, enough tasks."""
    meets = _attainment(counts).meets(slo.percentile)
    if tasks is None or slo.task_s is None or not meets:
        return meets
    return Attainment(tasks.met, tasks.began).meets(slo.percentile)


def _attainment(counts: Counts) -> Attainment:
    return Attainment(counts.met, counts.received)


def cost_per_million_tokens(cost_per_hour: float, window_s: float, tokens: int) -> float | None:
    """Return the cost of a window divided by its computed tokens in millions, ``None`` without
    tokens."""
    return _ratio(cost_per_hour * window_s / SECONDS_PER_HOUR * MILLION, tokens)


def _outcome(counts: Counts, latencies: Mapping[str, Percentiles], windows: Windows, usage: Usage,
             share: float) -> Outcome:
    attainment = _attainment(counts)
    low, high = attainment.interval or (None, None)
    window_s, busy = windows.whole_s, usage.busy(windows.whole_s)
    return Outcome(
        received=counts.received, finished=counts.finished, rejected=counts.rejected,
        shed=counts.shed, unfinished=counts.unfinished, met=counts.met,
        attainment=attainment.share, attainment_low=low, attainment_high=high,
        goodput_requests_per_s=per_second(counts.met, window_s),
        goodput_tokens_per_s=per_second(counts.met_tokens, window_s),
        received_requests_per_s=per_second(counts.received, windows.arrival_s),
        output_tokens_per_s=per_second(counts.output_tokens, window_s),
        prompt_tokens=counts.prompt_tokens, output_tokens=counts.output_tokens,
        num_late_tokens=counts.num_late_tokens, num_preemptions=counts.num_preemptions,
        num_relegations=counts.num_relegations,
        latency=Latencies(**{one.name: latencies[one.name] for one in fields(Latencies)}),
        busy=None if busy is None else busy * share,
        cost=_cost(counts, usage.cost_per_hour * share, window_s))


def _cost(counts: Counts, per_hour: float, window_s: float) -> Cost:
    total = per_hour * window_s / SECONDS_PER_HOUR
    return Cost(
        per_hour=per_hour, total=total,
        per_million_tokens=cost_per_million_tokens(per_hour, window_s, counts.computed_tokens),
        per_million_output_tokens=_ratio(total * MILLION, counts.output_tokens),
        per_finished_request=_ratio(total, counts.finished),
        per_met_request=_ratio(total, counts.met))


def _ratio(amount: float, count: int) -> float | None:
    return amount / count if count else None


def _numbers(usage: Usage) -> Sequence[int]:
    return usage.replicas or range(len(usage.busy_s))


def _replicas(served: Sequence[int], usage: Usage, window_s: float) -> tuple[ReplicaUse, ...]:
    return tuple(ReplicaUse(replica=int(number), requests=requests, busy_s=float(busy_s),
                            busy=per_second(float(busy_s), window_s))
                 for number, requests, busy_s in zip(_numbers(usage), served, usage.busy_s,
                                                     strict=True))
