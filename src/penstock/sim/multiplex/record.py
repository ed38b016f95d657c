"""Record of a multiplexing run: one entry per request, load and batch."""

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from penstock.metrics.definitions import FloatColumn
from penstock.policy.multiplex.values import Batch, Queued, Shed


class LoadRecord(NamedTuple):
    """A load of a model on a device."""

    device: int
    model: int
    begin_s: float
    seconds: float
    failed: bool


class BatchRecord(NamedTuple):
    """A batch on a device."""

    device: int
    model: int
    begin_s: float
    seconds: float
    num_requests: int


@dataclass(frozen=True, slots=True)
class MultiplexRun:
    """Columns have an entry per request, in order of arrival. ``end_s`` is NaN for requests that
    were not answered, ``shed_s`` for requests that were not shed; ``reason`` indexes ``reasons``
    (-1: none). ``batches`` are static batches only. ``num_waiting`` requests had neither started
    nor been shed at the end of the run."""

    model: NDArray[np.int64]
    arrival_s: FloatColumn
    deadline_s: FloatColumn
    begin_s: FloatColumn
    end_s: FloatColumn
    shed_s: FloatColumn
    reason: NDArray[np.int64]
    reasons: tuple[str, ...]
    loads: tuple[LoadRecord, ...]
    batches: tuple[BatchRecord, ...]
    num_waiting: int

    @property
    def served(self) -> NDArray[np.bool_]:
        """Return a mask of the answered requests."""
        return np.asarray(~np.isnan(self.end_s))

    @property
    def latency_s(self) -> FloatColumn:
        """Return seconds from arrival to end, NaN for requests that were never answered."""
        return np.asarray(self.end_s - self.arrival_s)

    @property
    def in_time(self) -> NDArray[np.bool_]:
        """Return a mask of the requests answered before their deadline."""
        return np.asarray(self.end_s < self.deadline_s)


class Recorder:
    """Columns under construction. Requests have ids below ``num``; those that never arrived here
    are left out at the end."""

    def __init__(self, num: int) -> None:
        self.num_ended = 0
        self._arrived: list[Queued] = []
        self._begin_s, self._end_s, self._shed_s = [nan] * num, [nan] * num, [nan] * num
        self._reason = [-1] * num
        self._reasons: dict[str, int] = {}
        self._loads: list[LoadRecord] = []
        self._batches: list[BatchRecord] = []

    @property
    def request_ids(self) -> list[int]:
        """Return the ids of the requests that arrived, in order of arrival."""
        return [request.request_id for request in self._arrived]

    def arrived(self, request: Queued) -> None:
        """Record an arrival."""
        self._arrived.append(request)

    def loading(self, device: int, model: int, now_s: float, seconds: float, *,
                failed: bool) -> None:
        """Record the start of a load."""
        self._loads.append(LoadRecord(device, model, now_s, seconds, failed))

    def began(self, device: int, batch: Batch, now_s: float, seconds: float) -> None:
        """Record the start of a batch."""
        self._batches.append(BatchRecord(device, batch.model, now_s, seconds, len(batch.requests)))
        for request in batch.requests:
            self._begin_s[request.request_id] = now_s

    def joined(self, batch: Batch, now_s: float) -> None:
        """Record requests that join a running model."""
        for request in batch.requests:
            self._begin_s[request.request_id] = now_s

    def ended(self, batch: Batch, now_s: float, *, failed: bool) -> None:
        """Record the end of a batch. In a failed batch no request was answered."""
        if not failed:
            self.num_ended += len(batch.requests)
            for request in batch.requests:
                self._end_s[request.request_id] = now_s

    def shed(self, shed: Shed, now_s: float) -> None:
        """Record shed requests."""
        self.num_ended += len(shed.requests)
        reason = self._reasons.setdefault(shed.reason, len(self._reasons))
        for request in shed.requests:
            self._shed_s[request.request_id] = now_s
            self._reason[request.request_id] = reason

    def run(self, num_waiting: int) -> MultiplexRun:
        """Return the result, with an entry for each request that arrived."""
        rows = np.array(self.request_ids, dtype=np.int64)
        begin_s, end_s, shed_s = (np.array(column, dtype=np.float64)[rows] for column in (
            self._begin_s, self._end_s, self._shed_s))
        return MultiplexRun(
            np.array([one.model for one in self._arrived], dtype=np.int64),
            np.array([one.arrival_s for one in self._arrived], dtype=np.float64),
            np.array([one.deadline_s for one in self._arrived], dtype=np.float64),
            begin_s, end_s, shed_s, np.array(self._reason, dtype=np.int64)[rows],
            tuple(self._reasons), tuple(self._loads), tuple(self._batches), num_waiting)
