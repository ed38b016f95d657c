"""Tasks: the requests of one session as a whole, from the first arrival to the last token."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from penstock.core.slo import Slo
from penstock.metrics.attainment import Attainment
from penstock.metrics.definitions import BoolColumn, FloatColumn, IntColumn, within
from penstock.metrics.percentiles import percentiles
from penstock.metrics.run_summary import TaskSummary
from penstock.metrics.table import RequestTable, concat


@dataclass(frozen=True, slots=True)
class TaskTable:
    """One row per task that began. ``time_s`` is NaN where a request of the task was not sent or
    did not finish. ``rows`` are the requests of all tasks, and ``task`` has the row of each."""

    class_index: IntColumn
    time_s: FloatColumn
    rows: RequestTable
    task: IntColumn

    def summary(self, slos: Mapping[str, Slo], class_name: str | None = None) -> TaskSummary | None:
        """Return the outcome of a class's tasks, or of all; None without any."""
        names = self.rows.service_classes
        mine: BoolColumn = np.ones(len(self.time_s), np.bool_)
        if class_name is not None:
            mine = self.class_index == (names.index(class_name) if class_name in names else -1)
        if not mine.any():
            return None
        met = np.zeros(len(mine), np.bool_)
        for index, name in enumerate(names):
            same = mine & (self.class_index == index)
            met[same] = ~np.isnan(self.time_s[same]) & within(self.time_s[same], slos[name].task_s)
        times_s = self.time_s[mine & ~np.isnan(self.time_s)]
        attainment = Attainment(int(met.sum()), int(mine.sum()))
        low, high = attainment.interval or (None, None)
        return TaskSummary(
            began=attainment.received, finished=len(times_s), met=attainment.met,
            attainment=attainment.share, attainment_low=low, attainment_high=high,
            requests=int(mine[self.task].sum()), time_s=percentiles(times_s),
            time_mean_s=float(times_s.mean()) if len(times_s) else None,
            interactivity_tokens_per_s=interactivity(self.rows.take(mine[self.task])))


def task_table(blocks: Iterable[RequestTable], from_s: float | None = None) -> TaskTable | None:
    """Return the tasks that began at ``from_s`` or later, None without any. Where one block has no
    tasks, none of the run's has."""
    parts = []
    for block in blocks:
        if block.tasks is None:
            return None
        parts.append(block.take(block.tasks.index >= 0))
    rows = concat(parts) if parts else None
    if rows is None or rows.tasks is None or not len(rows):
        return None
    rows = rows.take(np.lexsort((rows.arrival_s, rows.tasks.index)))
    assert rows.tasks is not None, "taking rows keeps their tasks"
    starts = np.flatnonzero(np.diff(rows.tasks.index, prepend=-1))
    begun_s = rows.arrival_s[starts]
    if from_s is not None and (begun_s < from_s).any():
        sizes = np.diff(starts, append=len(rows))
        return task_table([rows.take(np.repeat(begun_s >= from_s, sizes))])
    whole = np.diff(starts, append=len(rows)) == rows.tasks.size[starts]
    done = whole & np.logical_and.reduceat(rows.finished, starts)
    ended_s = np.maximum.reduceat(np.where(rows.finished, rows.last_token_s, np.inf), starts)
    task = np.cumsum(np.isin(np.arange(len(rows)), starts)) - 1
    return TaskTable(rows.class_index[starts].astype(np.int64),
                     np.where(done, ended_s - begun_s, np.nan), rows, task)


def interactivity(rows: RequestTable) -> float | None:
    """Return tokens per second that 90 % of the finished requests exceed, counted from arrival: 1
    over the 90th percentile of end-to-end time per output token (InferenceX)."""
    done = rows.take(rows.finished & (rows.output_tokens > 0))
    slowest = percentiles(done.e2e_s / done.output_tokens).p90
    return 1.0 / slowest if slowest else None
