"""Scale policies side by side on the very same requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.core.errors import InputError
from penstock.experiment.run import run_fleet
from penstock.fleet.sources import fleet_workload
from penstock.fleet.values import Fleet
from penstock.metrics.bins import DemandCurve, demand_curve
from penstock.metrics.scaling_summary import Scaling
from penstock.plan.scaling_bound import least_gpu_hours


@dataclass(frozen=True, slots=True)
class ScalerRun:
    """One scale policy on one seed's requests. ``bound_gpu_hours`` is None where no bound is
    known; ``meets_slo`` says whether every class met its objective; ``demand`` are the requests
    with their attainment over time."""

    scale: str
    seed: int
    attainment: float | None
    by_class: Mapping[str, float | None]
    meets_slo: bool | None
    bound_gpu_hours: float | None
    scaling: Scaling
    demand: DemandCurve

    @property
    def over_bound(self) -> float | None:
        """GPU-hours divided by the bound, None without one."""
        return self.scaling.gpu_hours / self.bound_gpu_hours if self.bound_gpu_hours else None

    def document(self) -> dict[str, Any]:
        """Return the run as JSON data."""
        return {"scale": self.scale, "seed": self.seed, "attainment": self.attainment,
                "classes": dict(self.by_class), "meets_slo": self.meets_slo,
                "gpu_hours": self.scaling.gpu_hours, "bound_gpu_hours": self.bound_gpu_hours,
                "over_bound": self.over_bound,
                "cost": self.scaling.cost, "mean_replicas": self.scaling.mean_replicas,
                "peak_replicas": self.scaling.peak_replicas, "starts": self.scaling.starts,
                "stops": self.scaling.stops}


def compare_scalers(fleets: Mapping[str, Fleet], seeds: Sequence[int],
                    on_run: Callable[[str, int], None]) -> list[ScalerRun]:
    """Run every scale policy, by label, on every seed's requests, in order of seed.

    ``on_run`` is called before each run. Raises InputError as ``fleet_workload`` does, and where
    confidential requests forbid to tell the course of the replicas.
    """
    found = []
    for seed in seeds:
        workload = bound = None
        for label, fleet in fleets.items():
            on_run(label, seed)
            if workload is None:
                workload = fleet_workload(fleet, seed)
                bound = least_gpu_hours(fleet, workload)
            run = run_fleet(fleet, workload, seed)
            summary = run.summary
            if summary.scaling is None:
                raise InputError("compare --scale: some requests are confidential, and the course "
                                 "of the replicas would tell their number; expected a fleet "
                                 "without confidential requests")
            found.append(ScalerRun(
                label, seed, summary.overall.attainment,
                {name: one.attainment for name, one in summary.classes.items()},
                summary.overall.meets_slo, bound, summary.scaling,
                demand_curve(run.table, summary.end_s or 0.0)))
    return found
