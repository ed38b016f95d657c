"""One run of a fleet: simulate, then say what happened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock import __version__
from penstock.core.errors import InputError
from penstock.experiment.disclosed import shown
from penstock.fleet.values import Fleet
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.plan.fleet_bound import fleet_bound_per_s
from penstock.sim.simulation import Beliefs, SimulationResult, simulate
from penstock.workload.workload import Workload

Progress = Callable[[int], None]
AS_THEY_ARE = Beliefs()


@dataclass(frozen=True, slots=True)
class Run:
    """A fleet, what it was given, and what became of it. ``result`` is the whole of it, for
    searches; ``summary``, ``table`` and ``series`` are what may be shown."""

    fleet: Fleet
    seed: int
    result: SimulationResult
    summary: dict[str, Any]
    table: RequestTable
    series: RunSeries


def run_fleet(fleet: Fleet, workload: Workload, seed: int, *, beliefs: Beliefs = AS_THEY_ARE,
              journal_dir: Path | None = None, on_progress: Progress | None = None) -> Run:
    """Simulate a fleet whose replicas and pools are known."""
    result = simulate(fleet, workload, beliefs=beliefs, journal_dir=journal_dir, seed=seed,
                      on_progress=on_progress)
    found = shown(fleet, result)
    summary = {"name": fleet.name, "version": __version__, "engine": "sim", "seed": seed,
               **found.figures}
    if "confidential" not in summary:
        summary["overall"] |= _of_bound(fleet, workload, summary["overall"])
    return Run(fleet, seed, result, summary, found.table, found.series)


def _of_bound(fleet: Fleet, workload: Workload, overall: Mapping[str, Any]) -> dict[str, Any]:
    """The throughput bound of the fleet, and the share of it that the arrivals take; ``None`` where
    no bound is known."""
    try:
        bound_per_s = fleet_bound_per_s(fleet, workload)
    except InputError:  # not every step time and cache has one
        bound_per_s = None
    received_per_s = overall["received_requests_per_s"]
    share = None if not bound_per_s or received_per_s is None else received_per_s / bound_per_s
    return {"throughput_bound_per_s": bound_per_s, "bound_share": share}
