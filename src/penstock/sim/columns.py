"""Columns with the outcome of every request, filled in as requests end."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final

import numpy as np

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.metrics.definitions import BoolColumn, FloatColumn, IntColumn
from penstock.metrics.table import (
    FINISHED,
    NO_REPLICA,
    REJECTED,
    SHED,
    UNFINISHED,
    RequestTable,
    adapters_of,
    concat,
    tasks_of,
)
from penstock.sim.columns_in_file import columns_in_file
from penstock.sim.parts import Elsewhere
from penstock.sim.recorder import Ended
from penstock.workload.select import COLUMNS as WORKLOAD_COLUMNS
from penstock.workload.select import part_of
from penstock.workload.workload import Workload

OnOver = Callable[[RequestTable], None]
_Places = BoolColumn | slice

_OPEN: Final = -1
_ELSEWHERE: Final = -2
"""Status of a request that another part of the simulation has."""
_IN_MEMORY: Final = 3
"""Latest blocks that stay in memory."""


class Outcomes:
    """One row per received request, in blocks as the requests come. A row that is not filled in at
    the end is an unfinished request.

    ``on_over`` gets the blocks in order, each once all its requests are over; they are forgotten
    then. Without it all rows are kept. Requests that are ``elsewhere`` have no rows in the end.
    """

    def __init__(self, slos: Mapping[str, Slo], on_over: OnOver | None = None,
                 elsewhere: Elsewhere | None = None) -> None:
        self._slos = slos
        self._on_over = on_over
        self._elsewhere = elsewhere
        self._blocks: list[_Block] = []
        self._nothing: _Block  # without rows, with the names of the requests
        self._num_expected = 0
        self.num_stored = 0
        self.reasons: Counter[str] = Counter()

    def expect(self, workload: Workload) -> None:
        """Add the rows of the next requests."""
        self._blocks.append(_Block(self._num_expected, workload))
        self._num_expected += len(workload)
        self._nothing = _Block(self._num_expected, part_of(workload, slice(0, 0)))

    @property
    def first(self) -> int:
        """Number of the first request whose block is not over."""
        return self._blocks[0].first if self._blocks else self._num_expected

    def store(self, replica_id: int, ended: Ended, unfinished: Set[int]) -> None:
        """Store requests that ended on a replica, or were cut off by the end of the run."""
        if ended.lent.any():
            self._store_prefills(ended)
            ended = ended.take(~ended.lent)
        for block, rows, mine in self._split(ended.request_id):
            begun_s = block.moments["first_scheduled_s"][rows]  # on a replica before
            for name, column in block.moments.items():
                column[rows] = getattr(ended, name)[mine]
            for name, counts in block.counts.items():
                counts[rows] += getattr(ended, name)[mine]
            begun = block.moments["first_scheduled_s"]
            begun[rows] = np.fmin(begun_s, begun[rows])
            block.status[rows] = FINISHED
            block.replica[rows] = replica_id
        self._set(list(unfinished), UNFINISHED)
        self.num_stored += len(ended.request_id)

    def _store_prefills(self, ended: Ended) -> None:
        """Store what is known of requests whose prompt a replica has computed for another one."""
        for block, rows, mine in self._split(ended.request_id[ended.lent]):
            begun = block.moments["first_scheduled_s"]
            begun[rows] = np.fmin(begun[rows], ended.first_scheduled_s[ended.lent][mine])
            block.counts["num_preemptions"][rows] += ended.num_preemptions[ended.lent][mine]
            block.counts["num_relegations"][rows] += ended.num_relegations[ended.lent][mine]

    def refuse(self, request: Request, reason: str) -> None:
        """Store a request that was rejected on arrival."""
        self._set([request.request_id], REJECTED)
        self.reasons[reason] += 1

    def shed(self, replica_id: int, requests: Iterable[tuple[Request, str, int]]) -> None:
        """Store requests that were admitted and shed later, with reason and relegations."""
        for request, reason, num_relegations in requests:
            for block, rows, _ in self._split(np.array([request.request_id])):
                block.status[rows] = SHED
                block.replica[rows] = replica_id
                block.counts["num_relegations"][rows] += num_relegations
            self.reasons[reason] += 1

    def whole(self, numbers: IntColumn, devices: Sequence[int], begin_s: FloatColumn,
              end_s: FloatColumn) -> None:
        """Store requests of static batches: all tokens arrive when the batch ends, NaN where it
        never did."""
        replicas = np.asarray(devices)
        for block, rows, mine in self._split(numbers):
            served = ~np.isnan(end_s[mine])
            block.replica[rows] = replicas[mine]
            block.moments["first_scheduled_s"][rows] = begin_s[mine]
            for name in ("first_token_s", "last_token_s"):
                block.moments[name][rows] = end_s[mine]
            done = rows[served]
            block.counts["output_tokens"][done] = block.workload.output_tokens[done]
            block.status[done] = FINISHED

    def turned_away(self, shed: IntColumn, rejected: Sequence[int],
                    reasons: Mapping[str, int]) -> None:
        """Store rows that pools shed or rejected, and the number for each reason."""
        self._set(shed, SHED)
        self._set(rejected, REJECTED)
        for reason, num in reasons.items():
            self.reasons[reason] += num

    def late(self, numbers: IntColumn) -> None:
        """Mark rows that missed their own deadline."""
        for block, rows, _ in self._split(numbers):
            block.late[rows] = True

    def hand_over(self, *, end: bool = False) -> None:
        """Hand over the first blocks whose requests are over; at the ``end``, all. Blocks that wait
        for one before them are set aside in files."""
        self._leave()
        if self._on_over is None:
            return
        while self._blocks and (end or not (self._blocks[0].status == _OPEN).any()):
            self._on_over(self._blocks.pop(0).table(self._slos))
        for block in self._blocks[:-_IN_MEMORY]:
            block.set_aside()

    def table(self, arrived_s: Mapping[int, float] | None = None) -> RequestTable:
        """Return all rows that were not handed over, in order of arrival, with the outcome of each
        target.

        ``arrived_s`` has the times of the requests that were sent, where the simulation decided
        them. The others were never received.
        """
        if arrived_s is None:
            tables = [block.table(self._slos) for block in self._blocks or [self._nothing]]
            return tables[0] if len(tables) == 1 else concat(tables)
        assert len(self._blocks) == 1, "requests whose times a simulation decides are one block"
        times_s = np.full(len(self._blocks[0].workload), np.nan)
        times_s[list(arrived_s)] = list(arrived_s.values())
        table = self._blocks[0].table(self._slos, times_s)
        return table.take(np.argsort(times_s, kind="stable")[:len(arrived_s)])

    def _leave(self) -> None:
        """Mark the requests that other parts have taken."""
        if self._elsewhere is not None:
            self._set(self._elsewhere.requests, _ELSEWHERE)
            self.num_stored += len(self._elsewhere.requests)
            self._elsewhere.requests.clear()

    def _set(self, numbers: Sequence[int] | IntColumn, status: int) -> None:
        if len(numbers):
            for block, rows, _ in self._split(np.asarray(numbers)):
                block.status[rows] = status

    def _split(self, numbers: IntColumn) -> "Iterator[tuple[_Block, IntColumn, _Places]]":
        """Yield each block with its rows of the numbered requests, and their places among these."""
        if len(self._blocks) == 1:
            yield self._blocks[0], numbers - self._blocks[0].first, slice(None)
            return
        for block in self._blocks:
            mine = (numbers >= block.first) & (numbers < block.first + len(block.workload))
            if mine.any():
                yield block, numbers[mine] - block.first, mine


class _Block:
    """Outcomes of consecutive requests, numbered from ``first``."""

    def __init__(self, first: int, workload: Workload) -> None:
        count = len(workload)
        self._is_aside = False
        self.first = first
        self.workload = workload
        self.status = np.full(count, _OPEN, dtype=np.int8)
        self.late = np.zeros(count, dtype=np.bool_)
        self.replica = np.full(count, NO_REPLICA, dtype=np.int32)
        self.moments = {name: np.full(count, np.nan) for name in (
            "first_scheduled_s", "first_token_s", "last_token_s", "itl_mean_s", "itl_p99_s",
            "itl_max_s")}
        self.counts = {name: np.zeros(count, dtype=np.int64) for name in (
            "output_tokens", "num_late_tokens", "num_preemptions", "num_relegations")}

    def set_aside(self) -> None:
        """Move all columns to a file, where they can be changed as before."""
        if self._is_aside:
            return
        self._is_aside = True
        found = columns_in_file([self.status, self.late, self.replica, *self.moments.values(),
                                 *self.counts.values()])
        self.status, self.late, self.replica = found[:3]
        self.moments = dict(zip(self.moments, found[3:], strict=False))
        self.counts = dict(zip(self.counts, found[3 + len(self.moments):], strict=True))
        columns: dict[str, Any] = dict(zip(WORKLOAD_COLUMNS, columns_in_file(
            [getattr(self.workload, name) for name in WORKLOAD_COLUMNS]), strict=True))
        self.workload = replace(self.workload, **columns)

    def table(self, slos: Mapping[str, Slo], times_s: FloatColumn | None = None) -> RequestTable:
        """Return the rows, with arrivals at other times where these are given."""
        workload, count = self.workload, len(self.workload)
        moments: dict[str, Any] = dict(self.moments)
        table = RequestTable(
            request_id=np.arange(self.first, self.first + count, dtype=np.int64),
            model_index=workload.model_index.astype(np.int32),
            class_index=workload.class_index.astype(np.int32),
            tenant_index=workload.tenant_index.astype(np.int32), replica=self.replica,
            arrival_s=workload.arrival_s if times_s is None else times_s,
            prompt_tokens=workload.prompt_tokens,
            output_tokens=self.counts["output_tokens"],
            num_late_tokens=self.counts["num_late_tokens"],
            num_preemptions=self.counts["num_preemptions"].astype(np.int32),
            num_relegations=self.counts["num_relegations"].astype(np.int32),
            status=np.where(self.status == _OPEN, np.int8(UNFINISHED), self.status),
            met_slo=np.zeros(count, dtype=np.bool_), models=workload.models,
            service_classes=workload.service_classes, tenants=workload.tenants,
            tasks=tasks_of(workload.tasks),
            adapters=adapters_of(workload.adapters, workload.adapter_index), **moments)
        judged = table.judged(slos)
        judged = replace(judged, met_slo=judged.met_slo & ~self.late)
        here = self.status != _ELSEWHERE
        return judged if here.all() else judged.take(here)
