"""Energy and carbon of a simulated run, from the busy time of its replicas."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.core.power import JOULES_PER_KWH, CarbonIntensity, PowerCurve
from penstock.fleet.energy import coverage
from penstock.fleet.values import Fleet
from penstock.metrics.definitions import FloatColumn
from penstock.metrics.run_summary import EnergyUse
from penstock.metrics.scaling_summary import ScalingEvent
from penstock.sim.simulation import SimulationResult
from penstock.sim.timeline import BUSY_BIN_S

_GRAMS_PER_KG = 1000.0


@dataclass(frozen=True, slots=True)
class GroupEnergy:
    """Energy of one group's accelerators in kWh, and its carbon in kg of CO2; None where the power
    or the intensity is unknown."""

    kwh: float | None = None
    carbon_kg: float | None = None


@dataclass(frozen=True, slots=True)
class HeldTime:
    """Replica-seconds of one group by bin: starting, and serving or draining."""

    starting_s: FloatColumn
    serving_s: FloatColumn


def energies(fleet: Fleet, result: SimulationResult,
             changes: Sequence[ScalingEvent]) -> list[GroupEnergy]:
    """Return the energy of each group of a run, whose replicas change as the events say.

    The power of a group's serving replicas in a minute is that of their mean busy share in the
    minute, which is the time in which steps run over the time held. Starting replicas are idle.
    """
    edges = np.append(np.arange(0.0, result.end_s, BUSY_BIN_S), result.end_s)
    found = []
    for number, group in enumerate(fleet.replicas):
        curve = fleet.pool(group.accelerator.name).power_curve
        if curve is None:
            found.append(GroupEnergy())
            continue
        busy_s = result.busy_bins_of(number, len(edges) - 1)
        own = [one for one in changes if one.group == number]
        joules = group.parallelism.num_accelerators * joules_by_bin(
            curve, held_time(own, edges), busy_s)
        found.append(GroupEnergy(float(joules.sum()) / JOULES_PER_KWH,
                                 _carbon_kg(joules, edges, fleet.scaling.carbon)))
    return found


def fixed_energy(fleet: Fleet, result: SimulationResult) -> EnergyUse | None:
    """Return the energy of a run whose replicas do not change, all of them held from 0 to the end;
    None where the file states neither power nor carbon."""
    if not fleet.replicas or not fleet.tells_energy:
        return None
    found = energies(fleet, result, [
        ScalingEvent(at_s=0.0, group=number, target=group.count, waiting=0, starting=0,
                     ready=group.count, draining=0) for number, group in enumerate(fleet.replicas)])
    return EnergyUse(
        energy_kwh=total([one.kwh for one in found]),
        carbon_kg=total([one.carbon_kg for one in found]),
        power_coverage=coverage(fleet, [float(one.num_accelerators) for one in fleet.replicas]))


def joules_by_bin(curve: PowerCurve, held: HeldTime, busy_s: FloatColumn) -> FloatColumn:
    """Return the energy of one accelerator of each replica by bin, all replicas together, from
    their busy time."""
    share = np.divide(busy_s, held.serving_s, out=np.zeros(len(busy_s)),
                      where=held.serving_s > 0.0)
    watts = np.interp(share, (0.0, curve.mid_utilization, 1.0),
                      (curve.idle_w, curve.mid_w, curve.full_w))
    found: FloatColumn = held.starting_s * curve.idle_w + held.serving_s * watts
    return found


def held_time(changes: Sequence[ScalingEvent], edges: FloatColumn) -> HeldTime:
    """Return the replica-seconds of one group's changes between the edges, which begin at 0 and
    end with the run."""
    times_s = np.array([one.at_s for one in changes] + [edges[-1]])

    def between(counts: Sequence[int]) -> FloatColumn:
        total = np.append(0.0, np.cumsum(np.array(counts, dtype=np.float64) * np.diff(times_s)))
        found: FloatColumn = np.diff(np.interp(edges, times_s, total))
        return found

    return HeldTime(between([one.starting for one in changes]),
                    between([one.ready + one.draining for one in changes]))


def _carbon_kg(joules: FloatColumn, edges: FloatColumn,
               carbon: CarbonIntensity | None) -> float | None:
    """Return the carbon of energy by bin, each at the intensity at its beginning."""
    if carbon is None:
        return None
    grams_per_kwh = np.array([carbon.at(float(time_s)) for time_s in edges[:-1]])
    return float((joules * grams_per_kwh).sum()) / JOULES_PER_KWH / _GRAMS_PER_KG


def total(values: Sequence[float | None]) -> float | None:
    """Return a sum, None where any of its terms is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
