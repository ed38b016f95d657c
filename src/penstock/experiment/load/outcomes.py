"""Outcomes of all sent requests, in the table that simulations produce."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.slo import ServiceClass
from penstock.engines.client.answer import (
    CUT_OFF,
    FINISHED,
    INVALID,
    OUT_OF_BUDGET,
    REFUSED,
    TIMED_OUT,
    UNREACHABLE,
    Answer,
)
from penstock.metrics import table as tables
from penstock.metrics.definitions import FloatColumn, Latencies, request_latencies
from penstock.metrics.percentiles import percentiles
from penstock.metrics.run_summary import Failures, Generator, Lateness, Refusal, Sent, Spread
from penstock.metrics.table import NO_REPLICA, STATUSES, RequestTable, adapters_of, tasks_of
from penstock.workload.workload import Workload

_TURNED_AWAY = (REFUSED, OUT_OF_BUDGET, INVALID, UNREACHABLE)
_STATUS = {name: code for code, name in enumerate(STATUSES)}


@dataclass(frozen=True, slots=True)
class _Row:
    """One request; moments are seconds since the run's start."""

    number: int
    row: int
    due_s: float
    sent_s: float
    first_token_s: float
    last_token_s: float
    prompt_tokens: int
    output_tokens: int
    gaps: Latencies
    outcome: str
    reason: str
    streamed: bool
    counted: bool


class Outcomes:
    """Takes answers as they end; ``classes`` has the workload's classes by name.

    Requests that failed stay in: rejected when they were turned away before a token, shed when they
    ended without their last one for any other reason, unfinished when the run ended before them.
    """

    def __init__(self, workload: Workload, classes: dict[str, ServiceClass],
                 start_s: float) -> None:
        self._workload = workload
        self._classes = classes
        self._start_s = start_s
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, number: int, due_s: float, answer: Answer) -> None:
        """Request ``number`` was due at ``due_s``; both it and the answer are on one clock."""
        workload = self._workload
        row = number % len(workload)
        moments = answer.token_times_s() - self._start_s
        due_s -= self._start_s
        service_class = self._classes[workload.service_classes[workload.class_index[row]]]
        gaps = request_latencies(service_class.slo, due_s, np.nan, moments, answer.finished)
        prompt = answer.prompt_tokens
        self._rows.append(_Row(
            number, row, due_s, answer.sent_s - self._start_s,
            float(moments[0]) if len(moments) else np.nan,
            float(moments[-1]) if len(moments) else np.nan,
            int(workload.prompt_tokens[row]) if prompt is None else prompt, len(moments), gaps,
            answer.outcome, answer.reason, answer.streamed, answer.output_tokens is not None))

    # -- what came of it ------------------------------------------------------------------------

    def _ordered(self) -> list[_Row]:
        return sorted(self._rows, key=lambda one: (one.due_s, one.number))

    def sent_s(self) -> FloatColumn:
        """When the request of each of the table's rows was sent."""
        return np.array([one.sent_s for one in self._ordered()], dtype=np.float64)

    def failures(self) -> tuple[str, ...]:
        """Return the failure of each row of the table with its reason; empty where the request
        finished."""
        return tuple("" if one.outcome == FINISHED else f"{one.outcome}: {one.reason}"
                     for one in self._ordered())

    def table(self) -> RequestTable:
        """All rows in order of when they were due, judged. Raises ValueError without any."""
        if not self._rows:
            raise ValueError("no request was sent")
        workload, found = self._workload, self._ordered()
        rows = np.array([one.row for one in found], dtype=np.int64)

        def floats(name: str) -> Any:
            return np.array([getattr(one, name) for one in found], dtype=np.float64)

        def gaps(name: str) -> Any:
            return np.array([getattr(one.gaps, name) for one in found])

        num = len(found)
        tasks = tasks_of(workload.tasks)
        adapters = adapters_of(workload.adapters, workload.adapter_index)
        table = RequestTable(
            request_id=np.array([one.number for one in found], dtype=np.int64),
            model_index=workload.model_index[rows].astype(np.int32),
            class_index=workload.class_index[rows].astype(np.int32),
            tenant_index=workload.tenant_index[rows].astype(np.int32),
            replica=np.full(num, NO_REPLICA, dtype=np.int32), arrival_s=floats("due_s"),
            prompt_tokens=np.array([one.prompt_tokens for one in found], dtype=np.int64),
            output_tokens=np.array([one.output_tokens for one in found], dtype=np.int64),
            first_scheduled_s=np.full(num, np.nan), first_token_s=floats("first_token_s"),
            last_token_s=floats("last_token_s"), itl_mean_s=gaps("itl_mean_s"),
            itl_p99_s=gaps("itl_p99_s"), itl_max_s=gaps("itl_max_s"),
            num_late_tokens=gaps("num_late_tokens").astype(np.int64),
            num_preemptions=np.zeros(num, dtype=np.int32),
            num_relegations=np.zeros(num, dtype=np.int32),
            status=np.array([_STATUS[_status(one)] for one in found], dtype=np.int8),
            met_slo=np.zeros(num, dtype=np.bool_), models=workload.models,
            service_classes=workload.service_classes, tenants=workload.tenants,
            tasks=tasks and tasks.take(rows),
            adapters=adapters and adapters.take(rows))
        return table.judged({name: one.slo for name, one in self._classes.items()})

    def counts(self) -> Sent:
        """``sent`` = ``finished`` + all of ``failed``, by kind and by whether a token came."""
        failed: dict[str, dict[str, int]] = {}
        for one in self._rows:
            if one.outcome != FINISHED:
                kind = failed.setdefault(one.outcome, {"before_first_token": 0,
                                                       "after_first_token": 0})
                kind["after_first_token" if one.output_tokens else "before_first_token"] += 1
        finished = sum(one.outcome == FINISHED for one in self._rows)
        return Sent(sent=len(self._rows), finished=finished,
                    failed={kind: Failures(**num) for kind, num in sorted(failed.items())})

    def refusals(self) -> tuple[Refusal, ...]:
        """Why requests did not finish, by reason, class and status, with an example each."""
        counts: Counter[tuple[str, str, str]] = Counter()
        examples: dict[tuple[str, str, str], str] = {}
        for one in self._rows:
            if one.outcome == FINISHED:
                continue
            name = self._workload.service_classes[self._workload.class_index[one.row]]
            key = (_words(one), name, _status(one))
            counts[key] += 1
            examples.setdefault(key, one.reason)
        return tuple(Refusal(reason=reason, num_requests=num, service_class=name, status=status,
                             example=examples[reason, name, status])
                     for (reason, name, status), num in sorted(counts.items()))

    def generator(self) -> Generator:
        """How well the load itself kept to its plan: lateness, seconds, and lengths."""
        late_s = np.array([one.sent_s - one.due_s for one in self._rows])
        done = [one for one in self._rows if one.outcome == FINISHED]
        planned = self._workload
        return Generator(
            lateness_s=Lateness(**vars(percentiles(late_s)), max=float(late_s.max(initial=0.0))),
            not_streamed=sum(not one.streamed for one in done),
            without_usage=sum(not one.counted for one in done),
            prompt_tokens_off=_spread([one.prompt_tokens / planned.prompt_tokens[one.row] - 1.0
                                       for one in done]),
            output_tokens_off=_spread([one.output_tokens / planned.output_tokens[one.row] - 1.0
                                       for one in done]))


def _status(one: _Row) -> str:
    if one.outcome == FINISHED:
        return STATUSES[tables.FINISHED]
    if one.outcome == CUT_OFF:
        return STATUSES[tables.UNFINISHED]
    turned_away = one.outcome in _TURNED_AWAY and not one.output_tokens
    return STATUSES[tables.REJECTED if turned_away else tables.SHED]


def _words(one: _Row) -> str:
    if one.outcome == TIMED_OUT or one.output_tokens:
        when = "after its first token" if one.output_tokens else "before its first token"
        return f"{one.outcome.replace('_', ' ')} {when}"
    return one.outcome.replace("_", " ")


def _spread(shares: list[float]) -> Spread:
    """Mean and largest deviation from what was planned, as shares of it."""
    if not shares:
        return Spread(mean=None, largest=None)
    return Spread(mean=float(np.mean(shares)), largest=float(np.max(np.abs(shares))))
