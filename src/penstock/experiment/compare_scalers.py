"""Scale policies side by side on the very same requests."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from penstock.core.errors import InputError
from penstock.experiment.clairvoyant import Clairvoyant, clairvoyant
from penstock.experiment.run import passing_run
from penstock.experiment.workers import ALONE, Executor
from penstock.fleet.sources import fleet_traffic
from penstock.fleet.values import Fleet
from penstock.metrics.bins import DemandCurve, demand_curve
from penstock.metrics.scaling_summary import Scaling
from penstock.workload.workload import Traffic


@dataclass(frozen=True, slots=True)
class ScalerRun:
    """One scale policy on one seed's requests. ``bound`` is None where no bound is known or asked
    for; ``meets_slo`` says whether every class met its objective; ``demand`` are the requests
    with their attainment over time."""

    scale: str
    seed: int
    attainment: float | None
    by_class: Mapping[str, float | None]
    meets_slo: bool | None
    bound: Clairvoyant | None
    scaling: Scaling
    demand: DemandCurve

    @property
    def bound_gpu_hours(self) -> float | None:
        """Accelerator-hours with which a clairvoyant meets the objectives."""
        return None if self.bound is None else self.bound.gpu_hours

    @property
    def over_bound(self) -> float | None:
        """GPU-hours divided by the bound, None without one."""
        return self.scaling.gpu_hours / self.bound_gpu_hours if self.bound_gpu_hours else None

    def document(self) -> dict[str, Any]:
        """Return the run as JSON data."""
        return {"scale": self.scale, "seed": self.seed, "attainment": self.attainment,
                "classes": dict(self.by_class), "meets_slo": self.meets_slo,
                "gpu_hours": self.scaling.gpu_hours, "bound_gpu_hours": self.bound_gpu_hours,
                "bound_low_gpu_hours": self.bound and self.bound.low_gpu_hours,
                "over_bound": self.over_bound,
                "energy_kwh": self.scaling.energy_kwh, "carbon_kg": self.scaling.carbon_kg,
                "power_coverage": self.scaling.power_coverage,
                "cost": self.scaling.cost, "mean_replicas": self.scaling.mean_replicas,
                "peak_replicas": self.scaling.peak_replicas, "starts": self.scaling.starts,
                "stops": self.scaling.stops}


class _Cell(NamedTuple):
    """A policy on a seed's requests, or without a label the search for the seed's bound."""

    label: str | None
    fleet: Fleet
    traffic: Traffic
    seed: int


def compare_scalers(fleets: Mapping[str, Fleet], seeds: Sequence[int],
                    on_run: Callable[[str, int], None], *, bounded: bool = True,
                    where: Executor = ALONE) -> list[ScalerRun]:
    """Run every scale policy, by label, on every seed's requests, in order of seed.

    ``on_run`` is called after each run, and after the search for a seed's bound, where ``bounded``.
    Raises InputError as ``fleet_traffic`` does, and where confidential requests forbid to tell the
    course of the replicas.
    """
    found: list[ScalerRun] = []
    bound: Clairvoyant | None = None
    for label, seed, result in where.results(_computed, _cells(fleets, seeds, bounded=bounded)):
        if isinstance(result, ScalerRun):
            found.append(replace(result, bound=bound))
        else:
            bound = result
        on_run(label or "the bound", seed)
    return found


def _cells(fleets: Mapping[str, Fleet], seeds: Sequence[int], *, bounded: bool
           ) -> Iterator[_Cell]:
    first = next(iter(fleets.values()))
    for seed in seeds:
        traffic = fleet_traffic(first, seed)
        if bounded:
            yield _Cell(None, first, traffic, seed)
        for label, fleet in fleets.items():
            yield _Cell(label, fleet, traffic, seed)


def _computed(cell: _Cell) -> tuple[str | None, int, ScalerRun | Clairvoyant | None]:
    label, fleet, traffic, seed = cell
    return label, seed, (clairvoyant(fleet, traffic, seed) if label is None
                         else _one(label, fleet, traffic, seed))


def _one(label: str, fleet: Fleet, traffic: Traffic, seed: int) -> ScalerRun:
    """Run one policy. Of the run itself nothing is kept, and of the bound nothing is known."""
    with passing_run(fleet, traffic, seed) as run:
        summary = run.summary
        if summary.scaling is None:
            raise InputError("compare --scale: some requests are confidential, and the course of "
                             "the replicas would tell their number; expected a fleet without "
                             "confidential requests")
        return ScalerRun(label, seed, summary.overall.attainment,
                         {name: one.attainment for name, one in summary.classes.items()},
                         summary.overall.meets_slo, None, summary.scaling,
                         demand_curve(run.requests, summary.end_s or 0.0))
