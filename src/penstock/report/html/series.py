"""A run as it went: load, queues and memory over time, and the steps worth looking at."""

from dataclasses import dataclass, replace

import numpy as np

from penstock.metrics.bins import bin_edges
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.series import ReplicaSeries, RunSeries
from penstock.metrics.table import UNFINISHED, RequestTable

MAX_BINS = 200


@dataclass(frozen=True, slots=True)
class LoadCurves:
    """Load over time, one value per bin: rates per second by class, counts at each bin's middle.

    ``kv_use`` is the share of all replicas' KV tokens in use.
    """

    time_s: FloatColumn
    arrivals_per_s: dict[str, FloatColumn]
    waiting: dict[str, FloatColumn]
    running: dict[str, FloatColumn]
    replica_waiting: FloatColumn
    kv_use: FloatColumn


def load_curves(table: RequestTable, series: RunSeries, max_bins: int = MAX_BINS) -> LoadCurves:
    """Arrivals, requests waiting and running by class, and what the replicas reported.

    Waiting runs from arrival to first scheduling, or to the first token where that is all that is
    known. Rejected requests never wait, and when a request was shed is not recorded, so neither is
    in ``waiting``; ``replica_waiting`` has the latter.
    """
    table = _begun(table)
    start_s, end_s = _span(table, series)
    edges = bin_edges(start_s, end_s, max_bins)
    middle = (edges[:-1] + edges[1:]) / 2
    width = edges[1] - edges[0]
    arrivals, waiting, running = {}, {}, {}
    for name in table.service_classes:
        rows = table.of_class(name)
        arrivals[name] = table.stands_for * np.histogram(rows.arrival_s, edges)[0] / width
        queued = _queued(rows)
        waiting[name] = table.stands_for * (_count(queued.arrival_s, middle)
                                            - _count(_known(queued.first_scheduled_s), middle))
        running[name] = table.stands_for * _in_service(rows, middle)
    replica_waiting, kv_use = _replica_curves(table, series, middle)
    return LoadCurves(middle, arrivals, waiting, running, replica_waiting, kv_use)


def _begun(table: RequestTable) -> RequestTable:
    """First tokens stand in for first steps that nobody saw, as those of live engines."""
    unseen = np.isnan(table.first_scheduled_s)
    return replace(table, first_scheduled_s=np.where(unseen, table.first_token_s,
                                                     table.first_scheduled_s))


def _queued(table: RequestTable) -> RequestTable:
    """Requests whose wait has a known end: a first step, or the run's own end."""
    begun = ~np.isnan(table.first_scheduled_s)
    unfinished = table.status == UNFINISHED
    return table.take(begun | unfinished)


def _ends_s(served: RequestTable) -> FloatColumn:
    """When each scheduled request left: at its last token, or at once when none came."""
    ends_s = np.where(np.isnan(served.last_token_s), served.first_scheduled_s, served.last_token_s)
    return np.where(served.status == UNFINISHED, np.inf, ends_s)


def _known(moments_s: FloatColumn) -> FloatColumn:
    return moments_s[~np.isnan(moments_s)]


def _count(moments_s: FloatColumn, times_s: FloatColumn) -> FloatColumn:
    """How many moments lie at or before each time."""
    return np.searchsorted(np.sort(moments_s), times_s, side="right").astype(np.float64)


def _span(table: RequestTable, series: RunSeries) -> tuple[float, float]:
    moments = [table.arrival_s, _known(table.last_token_s)]
    moments += [replica.step_end_s[-1:] for replica in series.replicas]
    joined = np.concatenate(moments)
    return (float(joined.min()), float(joined.max())) if len(joined) else (0.0, 1.0)


def _replica_curves(table: RequestTable, series: RunSeries,
                    times_s: FloatColumn) -> tuple[FloatColumn, FloatColumn]:
    """Requests waiting in replicas, and the share of KV memory in use, at each time."""
    waiting, used = np.zeros(len(times_s)), np.zeros(len(times_s))
    total = 0
    for replica in series.replicas:
        total += replica.kv_total_tokens
        if not len(replica):
            continue
        rows = np.searchsorted(replica.step_end_s, times_s)
        # Between steps a replica may be idle, which its own rows do not show.
        at_work = rows < len(replica)
        at_work &= _in_service(table.take(table.replica == replica.replica), times_s) > 0
        rows = np.minimum(rows, len(replica) - 1)
        waiting += np.where(at_work, replica.num_waiting[rows], 0)
        used += np.where(at_work, replica.kv_used_tokens[rows], 0)
    return waiting, used / total if total else used


def _in_service(table: RequestTable, times_s: FloatColumn) -> FloatColumn:
    """How many requests lie between first scheduling and their end at each time."""
    served = table.take(~np.isnan(table.first_scheduled_s))
    return _count(served.first_scheduled_s, times_s) - _count(_ends_s(served), times_s)


def longest_wait_window(replica: ReplicaSeries, num_steps: int = 240) -> slice:
    """The consecutive rows around the replica's longest queue, or its largest KV use if none."""
    if not len(replica):
        return slice(0, 0)
    load = replica.num_waiting if replica.num_waiting.any() else replica.kv_used_tokens
    middle = int(np.argmax(load))
    start = min(max(0, middle - num_steps // 2), max(0, len(replica) - num_steps))
    return slice(start, min(len(replica), start + num_steps))
