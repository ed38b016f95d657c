"""One run of a fleet: simulate, then say what happened."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock import __version__
from penstock.core.errors import InputError
from penstock.experiment.disclosed import redact
from penstock.experiment.in_parts import simulate_in_parts
from penstock.fleet.replica_factory import belief_factor, kind_of
from penstock.fleet.values import Fleet
from penstock.metrics.request_file import RequestWriter, StoredRequests
from penstock.metrics.run_summary import Bound, Origin, OverallSummary, RunSummary
from penstock.metrics.series import RunSeries
from penstock.metrics.table import Requests, RequestTable
from penstock.plan.fleet_bound import fleet_bound_per_s
from penstock.plan.scaling_bound import SAMPLE_REQUESTS, least_gpu_hours
from penstock.sim.beliefs import NO_ERRORS, Beliefs
from penstock.sim.columns import OnOver
from penstock.sim.simulation import SimulationResult, simulate
from penstock.workload.merge import sampled
from penstock.workload.workload import Traffic, Workload

Progress = Callable[[int], None]
SAMPLE_ROWS = 200_000
"""Requests of which a page tells where all are too many."""


@dataclass(frozen=True, slots=True)
class Run:
    """A fleet and its simulation. ``result`` is complete, for searches; ``summary``, ``requests``
    and ``series`` are redacted. Where ``requests`` are in a file, the result has none."""

    fleet: Fleet
    seed: int
    result: SimulationResult
    summary: RunSummary
    requests: Requests
    series: RunSeries

    @property
    def table(self) -> RequestTable:
        """All requests; of those in a file an even sample."""
        if isinstance(self.requests, StoredRequests):
            return self.requests.sample(SAMPLE_ROWS)
        assert isinstance(self.requests, RequestTable), "requests are in memory or in a file"
        return self.requests


def run_fleet(fleet: Fleet, workload: Traffic, seed: int, *, beliefs: Beliefs = NO_ERRORS,
              journal_dir: Path | None = None, on_progress: Progress | None = None,
              store: Path | None = None, jobs: int = 1) -> Run:
    """Simulate a fleet whose replicas and pools are known.

    ``store`` is the file of the requests, which are not held in memory then. It is for runs without
    confidential requests. A long simulation whose replicas do not depend on each other takes up to
    ``jobs`` processes, with the same results.
    """
    def simulated(on_over: OnOver | None = None) -> SimulationResult:
        found = None if journal_dir is not None else simulate_in_parts(
            fleet, workload, beliefs, seed, jobs, on_over)
        return found or simulate(fleet, workload, beliefs=beliefs, journal_dir=journal_dir,
                                 seed=seed, on_progress=on_progress, on_over=on_over)

    if store is None:
        result, stored = simulated(), None
    else:
        with RequestWriter(store) as writer:
            result = simulated(writer.write)
        stored = StoredRequests(store)
    found = redact(fleet, result, stored)
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
    return Run(fleet, seed, result, summary, found.requests, found.series)


@contextmanager
def passing_run(fleet: Fleet, traffic: Traffic, seed: int) -> Iterator[Run]:
    """Simulate a fleet. Requests of traffic that is not held are in a temporary file until the end
    of the block."""
    if isinstance(traffic, Workload):
        yield run_fleet(fleet, traffic, seed)
        return
    with TemporaryDirectory(prefix="penstock-") as folder:
        yield run_fleet(fleet, traffic, seed, store=Path(folder) / "requests.parquet")


def _believed(fleet: Fleet, seed: int) -> dict[str, float] | None:
    """Step times that policies believe over those of the model, by kind of replica; None where
    they are equal."""
    if fleet.run.beliefs != "uncertain":
        return None
    return {kind_of(group): belief_factor(fleet, group, seed) for group in fleet.replicas} or None


def _of_bound(fleet: Fleet, workload: Traffic, overall: OverallSummary) -> Bound:
    """The throughput bound of the fleet, and the share of it that the arrivals take; ``None`` where
    no bound is known."""
    try:
        # Replicas that come and go have no one bound.
        bound_per_s = None if fleet.scales else fleet_bound_per_s(
            fleet, sampled(workload, SAMPLE_REQUESTS)[0])
    except InputError:  # not every step time and cache has one
        bound_per_s = None
    received_per_s = overall.received_requests_per_s
    share = None if not bound_per_s or received_per_s is None else received_per_s / bound_per_s
    return Bound(throughput_bound_per_s=bound_per_s, bound_share=share)
