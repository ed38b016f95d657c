"""One run of a fleet: simulate, then say what happened."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from penstock import __version__
from penstock.core.errors import InputError
from penstock.experiment.disclosed import redact
from penstock.fleet.replica_factory import belief_factor, kind_of
from penstock.fleet.values import Fleet
from penstock.metrics.run_summary import Bound, Origin, OverallSummary, RunSummary
from penstock.metrics.series import RunSeries
from penstock.metrics.table import RequestTable
from penstock.plan.fleet_bound import fleet_bound_per_s
from penstock.plan.scaling_bound import least_gpu_hours
from penstock.sim.simulation import Beliefs, SimulationResult, simulate
from penstock.workload.workload import Workload

Progress = Callable[[int], None]
AS_THEY_ARE = Beliefs()


@dataclass(frozen=True, slots=True)
class Run:
    """A fleet and its simulation. ``result`` is complete, for searches; ``summary``, ``table`` and
    ``series`` are redacted."""

    fleet: Fleet
    seed: int
    result: SimulationResult
    summary: RunSummary
    table: RequestTable
    series: RunSeries


def run_fleet(fleet: Fleet, workload: Workload, seed: int, *, beliefs: Beliefs = AS_THEY_ARE,
              journal_dir: Path | None = None, on_progress: Progress | None = None) -> Run:
    """Simulate a fleet whose replicas and pools are known."""
    result = simulate(fleet, workload, beliefs=beliefs, journal_dir=journal_dir, seed=seed,
                      on_progress=on_progress)
    found = redact(fleet, result)
    origin = Origin(name=fleet.name, version=__version__, engine="sim", seed=seed)
    summary = replace(found.summary, origin=origin, believed_step_times=_believed(fleet, seed))
    if summary.confidential is None:
        summary = replace(summary, unsent=result.num_unsent or None)
        bound = _of_bound(fleet, workload, summary.overall)
        summary = replace(summary, overall=replace(summary.overall, bound=bound))
        if summary.scaling is not None:
            least = least_gpu_hours(fleet, workload)
            summary = replace(summary, scaling=replace(
                summary.scaling, least_gpu_hours=least,
                over_least=summary.scaling.gpu_hours / least if least else None))
    return Run(fleet, seed, result, summary, found.table, found.series)


def _believed(fleet: Fleet, seed: int) -> dict[str, float] | None:
    """Step times that policies believe over those of the model, by kind of replica; None where
    they are equal."""
    if fleet.run.beliefs != "uncertain":
        return None
    return {kind_of(group): belief_factor(fleet, group, seed) for group in fleet.replicas} or None


def _of_bound(fleet: Fleet, workload: Workload, overall: OverallSummary) -> Bound:
    """The throughput bound of the fleet, and the share of it that the arrivals take; ``None`` where
    no bound is known."""
    try:
        # Replicas that come and go have no one bound.
        bound_per_s = None if fleet.scales else fleet_bound_per_s(fleet, workload)
    except InputError:  # not every step time and cache has one
        bound_per_s = None
    received_per_s = overall.received_requests_per_s
    share = None if not bound_per_s or received_per_s is None else received_per_s / bound_per_s
    return Bound(throughput_bound_per_s=bound_per_s, bound_share=share)
