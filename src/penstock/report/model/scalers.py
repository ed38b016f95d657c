"""Scale policies side by side: their figures, and those that none of the others beats."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from penstock.metrics.bins import DemandCurve
from penstock.metrics.scaling_summary import Scaling
from penstock.report.model import table as cell
from penstock.report.model import wording
from penstock.report.model.table import Column, Table, table

ENERGY, CARBON = "energy", "carbon"


@dataclass(frozen=True, slots=True)
class ScalerResult:
    """One scale policy on one seed's requests. ``bound_gpu_hours`` are those with which a
    clairvoyant meets the objectives, ``bound_low_gpu_hours`` those below which none is expected to;
    None where no bound is known."""

    scale: str
    seed: int
    attainment: float | None
    meets_slo: bool | None
    bound_gpu_hours: float | None
    scaling: Scaling
    demand: DemandCurve
    bound_low_gpu_hours: float | None = None


@dataclass(frozen=True, slots=True)
class ScalerPoint:
    """Means of one policy over the seeds. ``meets_slo`` says whether every seed's run met its
    objectives."""

    scale: str
    gpu_hours: float
    cost: float
    attainment: float
    meets_slo: bool | None


def points(results: Sequence[ScalerResult]) -> list[ScalerPoint]:
    """Return the means of every policy whose attainment is known for every seed, in order."""
    found = []
    for scale in dict.fromkeys(one.scale for one in results):
        own = [one for one in results if one.scale == scale]
        known = [one.attainment for one in own if one.attainment is not None]
        if len(known) == len(own):
            verdicts = [one.meets_slo for one in own]
            found.append(ScalerPoint(
                scale, sum(one.scaling.gpu_hours for one in own) / len(own),
                sum(one.scaling.cost for one in own) / len(own), sum(known) / len(own),
                None if None in verdicts else all(verdicts)))
    return found


def front(found: Sequence[ScalerPoint]) -> list[str]:
    """Return the policies that no other beats: none has fewer GPU-hours without less attainment,
    or more attainment without more GPU-hours. In order of GPU-hours."""
    kept = [one for one in found if not any(_beats(other, one) for other in found)]
    return [one.scale for one in sorted(kept, key=lambda one: (one.gpu_hours, one.scale))]


def _beats(one: ScalerPoint, other: ScalerPoint) -> bool:
    return one.gpu_hours <= other.gpu_hours and one.attainment >= other.attainment and (
        one.gpu_hours < other.gpu_hours or one.attainment > other.attainment)


def headline(found: Sequence[ScalerPoint]) -> str:
    """Return which policy meets the objectives with the fewest GPU-hours."""
    able = [one for one in found if one.meets_slo]
    if not able:
        return "No policy meets the objectives" if any(
            one.meets_slo is False for one in found) else "Scale policies side by side"
    least = min(able, key=lambda one: (one.gpu_hours, one.scale))
    return (f"{least.scale} meets the objectives with the fewest GPU-hours: "
            f"{least.gpu_hours:,.1f}")


def bound_gpu_hours(results: Sequence[ScalerResult]) -> float | None:
    """Return the mean over the seeds of a clairvoyant's GPU-hours, None where a seed has none."""
    return _mean({one.seed: one.bound_gpu_hours for one in results})


def _mean(by_seed: Mapping[int, float | None]) -> float | None:
    known = [bound for bound in by_seed.values() if bound is not None]
    return sum(known) / len(known) if known and len(known) == len(by_seed) else None


def scalers_table(results: Sequence[ScalerResult], undominated: Collection[str] = (),
                  series: Sequence[str] = ()) -> Table:
    """Figures of every policy and seed. ``undominated`` adds a column that marks these policies;
    ``series`` are the policies by the place of their colour."""
    several = len({one.seed for one in results}) > 1
    rows = [[_name(one.scale, series), *([one.seed] if several else []),
             wording.percent(one.attainment), cell.verdict(one.meets_slo),
             f"{one.scaling.gpu_hours:,.1f}", wording.money(one.scaling.cost),
             wording.energy(one.scaling.energy_kwh), wording.carbon(one.scaling.carbon_kg),
             _over_bound(one),
             f"{one.scaling.mean_replicas:.2f}", cell.count(one.scaling.peak_replicas),
             cell.count(one.scaling.starts),
             *([("yes" if one.scale in undominated else "no")] if undominated else [])]
            for one in results]
    bound = bound_gpu_hours(results)
    found = table("Scale policies on the same requests", [
        Column("policy", left=True), *(["seed"] if several else []), "attainment", "objectives",
        "GPU-hours", "cost", ENERGY, CARBON, Column("over bound", 1), "mean replicas",
        Column("peak", 2), Column("starts", 2), *(["on the front"] if undominated else [])], rows,
        notes=[_told_bound(bound, _mean({one.seed: one.bound_low_gpu_hours for one in results})),
               _coverage([one.scaling for one in results])])
    return found.without(*(name for name, key in ((ENERGY, "energy_kwh"), (CARBON, "carbon_kg"))
                           if all(getattr(one.scaling, key) is None for one in results)))


def _coverage(found: Sequence[Scaling]) -> str:
    """Say which share of the GPU-hours has no known power, empty where all have one or none."""
    least = min((one.power_coverage for one in found if one.power_coverage is not None),
                default=None)
    return "" if not least or least == 1.0 else (
        f"The power of {wording.percent(least)} of the GPU-hours is known.")


def _told_bound(bound: float | None, low: float | None) -> str:
    if bound is None or low is None:
        return ""
    none = f"None is expected to need less than {low:,.1f}: the work at the highest utilization " \
           "at which a steady stream of these requests is in time."
    if bound <= low:
        return f"No schedule was found that meets the objectives. {none}"
    return (f"The bound: a clairvoyant, who knows all requests, meets the objectives with "
            f"{bound:,.1f} GPU-hours, as simulation confirms. {none} Gap: {bound / low - 1:.0%}.")


def _name(scale: str, series: Sequence[str]) -> cell.Cell:
    return cell.name(scale, series.index(scale)) if series else cell.strong(scale)


def _over_bound(one: ScalerResult) -> str:
    return f"x{one.scaling.gpu_hours / one.bound_gpu_hours:.2f}" if one.bound_gpu_hours else ""
