"""Columns with the outcome of every request, filled in as requests end."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from penstock.core.request import Request
from penstock.core.slo import Slo
from penstock.metrics.definitions import FloatColumn, IntColumn
from penstock.metrics.table import FINISHED, NO_REPLICA, REJECTED, SHED, UNFINISHED, RequestTable
from penstock.sim.recorder import Ended
from penstock.workload.workload import Workload


class Outcomes:
    """One row per received request. A row that is not filled in at the end is an unfinished
    request."""

    def __init__(self, workload: Workload, slos: Sequence[Slo]) -> None:
        self._workload = workload
        self._slos = dict(zip(workload.service_classes, slos, strict=True))
        count = len(workload)
        self.num_stored = 0
        self.reasons: Counter[str] = Counter()
        self._status = np.full(count, UNFINISHED, dtype=np.int8)
        self._late = np.zeros(count, dtype=np.bool_)
        self._replica = np.full(count, NO_REPLICA, dtype=np.int32)
        self._moments = {name: np.full(count, np.nan) for name in (
            "first_scheduled_s", "first_token_s", "last_token_s", "itl_mean_s", "itl_p99_s",
            "itl_max_s")}
        self._counts = {name: np.zeros(count, dtype=np.int64) for name in (
            "output_tokens", "num_late_tokens", "num_preemptions", "num_relegations")}

    def store(self, replica_id: int, ended: Ended, unfinished: Set[int]) -> None:
        """Store requests that ended on a replica, or were cut off by the end of the run."""
        rows = ended.request_id
        for name, column in self._moments.items():
            column[rows] = getattr(ended, name)
        for name, counts in self._counts.items():
            counts[rows] = getattr(ended, name)
        self._status[rows] = FINISHED
        self._status[list(unfinished)] = UNFINISHED
        self._replica[rows] = replica_id
        self.num_stored += len(rows)

    def refuse(self, request: Request, reason: str) -> None:
        """Store a request that was rejected on arrival."""
        self._status[request.request_id] = REJECTED
        self.reasons[reason] += 1

    def shed(self, replica_id: int, requests: Iterable[tuple[Request, str, int]]) -> None:
        """Store requests that were admitted and shed later, with reason and relegations."""
        for request, reason, num_relegations in requests:
            row = request.request_id
            self._status[row] = SHED
            self._replica[row] = replica_id
            self._counts["num_relegations"][row] += num_relegations
            self.reasons[reason] += 1

    def whole(self, rows: IntColumn, devices: Sequence[int], begin_s: FloatColumn,
              end_s: FloatColumn) -> None:
        """Store requests of static batches: all tokens arrive when the batch ends, NaN where it
        never did."""
        served = ~np.isnan(end_s)
        self._replica[rows] = devices
        self._moments["first_scheduled_s"][rows] = begin_s
        for name in ("first_token_s", "last_token_s"):
            self._moments[name][rows] = end_s
        self._counts["output_tokens"][rows[served]] = self._workload.output_tokens[rows[served]]
        self._status[rows[served]] = FINISHED

    def turned_away(self, shed: IntColumn, rejected: Sequence[int],
                    reasons: Mapping[str, int]) -> None:
        """Store rows that pools shed or rejected, and the number for each reason."""
        self._status[shed] = SHED
        self._status[list(rejected)] = REJECTED
        for reason, num in reasons.items():
            self.reasons[reason] += num

    def late(self, rows: IntColumn) -> None:
        """Mark rows that missed their own deadline."""
        self._late[rows] = True

    def table(self, arrived_s: Mapping[int, float] | None = None) -> RequestTable:
        """Return all rows in order of arrival, with the outcome of each target.

        ``arrived_s`` has the times of the requests that were sent, where the simulation decided
        them. The others were never received.
        """
        workload = self._workload
        count = len(workload)
        times_s = workload.arrival_s
        if arrived_s is not None:
            times_s = np.full(count, np.nan)
            times_s[list(arrived_s)] = list(arrived_s.values())
        table = RequestTable(
            request_id=np.arange(count, dtype=np.int64),
            model_index=workload.model_index.astype(np.int32),
            class_index=workload.class_index.astype(np.int32),
            tenant_index=workload.tenant_index.astype(np.int32), replica=self._replica,
            arrival_s=times_s, prompt_tokens=workload.prompt_tokens,
            output_tokens=self._counts["output_tokens"],
            num_late_tokens=self._counts["num_late_tokens"],
            num_preemptions=self._counts["num_preemptions"].astype(np.int32),
            num_relegations=self._counts["num_relegations"].astype(np.int32),
            status=self._status, met_slo=np.zeros(count, dtype=np.bool_), models=workload.models,
            service_classes=workload.service_classes, tenants=workload.tenants, **self._moments)
        judged = table.judged(self._slos)
        judged = replace(judged, met_slo=judged.met_slo & ~self._late)
        if arrived_s is None:
            return judged
        return judged.take(np.argsort(times_s, kind="stable")[:len(arrived_s)])
