"""MaverIQ's end-to-end runs again: the same requests and service times under its queue and ours.

Five runs on the models ``large`` under the trace ``code``. What passes between a turn and the
engine's work is learnt from other runs than the one judged.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from penstock.core.errors import InputError
from penstock.metrics.definitions import FloatColumn
from penstock.policy.queue.by_set import DeviceSetQueue
from penstock.policy.queue.fifo import GlobalFifo
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.policy.queue.values import Shared, Start, Waiting
from penstock.published.figures import Figure, Options, Reproduction
from penstock.published.maveriq.calibrate import (
    admission_lag_s,
    overheads_s,
    pauses,
)
from penstock.published.maveriq.records import Cell, Records, Run, RunKey
from penstock.sim.exclusive import Dispatch, Served, serve

TOLERANCE = 0.1
MIN_GPU_COST_MEDIAN_S = 5.0


def _large(system: str, policy: str, trace: str, scale: str, slo: str = "0") -> RunKey:
    return RunKey(system, policy, Cell("large", trace, scale), slo)


_ALPASERVE_CALM = _large("AlpaServe*", "None", "code", "0.1", "5.0")
JUDGED: dict[RunKey, RunKey] = {
    _large("MaverIQ", "min_lat", "code", "0.4"): _large("MaverIQ", "min_lat", "code", "0.1"),
    _large("MaverIQ", "min_cost", "code", "0.4"):
        _large("MaverIQ", "min_cost", "conversation", "0.1", "5.0"),
    _large("MaverIQ", "min_gpu_cost", "code", "0.4"):
        RunKey("MaverIQ", "min_gpu_cost", Cell("twentyone", "conversation", "0.2")),
    _large("AlpaServe", "None", "code", "0.4", "5.0"): _ALPASERVE_CALM,
    _large("AlpaServe", "None", "code", "0.2", "5.0"): _ALPASERVE_CALM,
}
"""The runs that are replayed, each with the run at low load of the same configurations from which
its dispatch is learnt."""


@dataclass(frozen=True, slots=True)
class Summary:
    """End-to-end seconds of a run."""

    median_s: float
    mean_s: float
    p95_s: float


def summary_of(e2e_s: FloatColumn) -> Summary:
    """Percentiles and mean."""
    return Summary(float(np.median(e2e_s)), float(np.mean(e2e_s)),
                   float(np.percentile(e2e_s, 95.0)))


def replay_figures(records: Records, options: Options) -> Reproduction:
    """The figures of all five runs. Raises InputError where one is not in the records."""
    known = [records.run(key) for key in records.keys if key.cell.model_set == "large"]
    figures: list[Figure] = []
    rows: list[dict[str, Any]] = []
    pieces = [_Piece(records.run(key), records.run(calm), admission_lag_s(
        run for run in known if run.replayable and run.key.cell != key.cell))
        for key, calm in JUDGED.items()]
    for piece, (found, row) in zip(pieces, options.where.results(_judged, pieces), strict=True):
        options.on_progress(f"replayed {piece.run.key.name}, {piece.run.key.cell.name}")
        figures += found
        rows += row
    return Reproduction("maveriq", tuple(figures), {"replay.csv": rows})


def reproduce_replay(data: Path, options: Options) -> Reproduction:
    """The replay, from a folder laid out as the docs say."""
    return replay_figures(Records(data), options)


def replay(run: Run, queue: type[GlobalFifo] | type[DeviceSetQueue], dispatch: Dispatch) -> Served:
    """A run's own requests, service times and device sets under a queue. Raises InputError for a
    run whose records do not tell them."""
    if not run.replayable:
        raise InputError(f"{run.key.name}, {run.key.cell.name}: arrivals or devices are not in the "
                         "records")
    deployments = [Shared((run.deployments[client].devices or frozenset(),),
                          fmean(run.service_s[run.client == client].tolist()))
                   for client in sorted(run.models)]
    requests = [Waiting(place, client, arrival_s) for place, (client, arrival_s) in enumerate(
        zip(run.client.tolist(), run.arrival_s.tolist(), strict=True))]
    seconds: list[float] = run.service_s.tolist()

    def work_s(start: Start) -> float:
        return seconds[start.request_ids[0]]

    turns: ExclusiveDeviceQueue = queue(deployments)
    return serve(requests, turns, work_s, dispatch)


class _Piece(NamedTuple):
    """A run, the one that tells its overheads, and the lags that other runs tell."""

    run: Run
    calm: Run
    lag_s: dict[str, float]


def _judged(piece: _Piece) -> tuple[list[Figure], list[dict[str, Any]]]:
    run = piece.run
    by_model = overheads_s([piece.calm])
    overhead_s = [by_model[run.models[client]] for client in sorted(run.models)]
    sleeps = pauses(run, piece.lag_s)
    measured = summary_of(run.e2e_s)
    published = summary_of(replay(run, GlobalFifo, Dispatch(overhead_s, sleeps)).e2e_s)
    ours = summary_of(replay(run, DeviceSetQueue, Dispatch(overhead_s)).e2e_s)
    asleep = summary_of(replay(run, DeviceSetQueue, Dispatch(overhead_s, sleeps)).e2e_s)
    name = f"{run.key.name}, {run.key.cell.trace} {run.key.cell.scale}"
    note = f"{len(run.e2e_s)} requests, {1e3 * fmean(overhead_s):.1f} ms to dispatch"
    if any(one.repaired for one in run.deployments.values()):
        note += ", one set of devices from memory taken"
    figures = [Figure(f"{name}: {what}, s", getattr(measured, field), getattr(published, field),
                      tolerance=TOLERANCE, note=note) for what, field in _FIELDS]
    figures += [_ours(run.key, f"{name}: {what} with a queue per set, s", field,
                      getattr(ours, field)) for what, field in _FIELDS]
    rows = [{"run": name, "queue": queue, **{field: getattr(summary, field)
                                             for _, field in _FIELDS}}
            for queue, summary in (("measured", measured), ("published", published),
                                   ("per set", ours), ("per set, with the sleeps", asleep))]
    return figures, rows


_FIELDS = (("median", "median_s"), ("mean", "mean_s"), ("p95", "p95_s"))


def _ours(key: RunKey, name: str, field: str, value: float) -> Figure:
    if key.policy == "min_gpu_cost" and field == "median_s":
        return Figure(name, MIN_GPU_COST_MEDIAN_S, value, "at_most", note="what is asked of us")
    return Figure(name, None, value, "shown")
