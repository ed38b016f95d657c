"""Figures of a run whose replicas a policy scaled."""

from itertools import groupby

import numpy as np

from penstock.experiment.energy import energies, total
from penstock.fleet.energy import coverage
from penstock.fleet.scaling import bounds, replica_per_hour
from penstock.fleet.starts import start_parts
from penstock.fleet.values import Fleet
from penstock.metrics.scaling_summary import (
    CalibratedTimes,
    ScaledGroup,
    Scaling,
    ScalingAlternative,
    ScalingChoice,
)
from penstock.metrics.summary import Usage
from penstock.policy.scale.values import LearnedTimes, ScalingDecision
from penstock.sim.scaling.build import ScalingRun
from penstock.sim.simulation import SimulationResult

HOUR_S = 3600.0


def usage_of(fleet: Fleet, result: SimulationResult, scaling: ScalingRun) -> Usage:
    """Return the resources of a scaled run: the slots that served, and the mean bill per hour."""
    used = np.flatnonzero(result.busy_s > 0).tolist()
    hours = scaling.end_s / HOUR_S
    cost = sum(_costs(fleet, scaling)) / hours if hours > 0 else 0.0
    return Usage(result.busy_s[used], cost, used, sum(scaling.held_s))


def scaling_summary(fleet: Fleet, result: SimulationResult, scaling: ScalingRun) -> Scaling:
    """Return what the fleet's scaler did."""
    groups = tuple(
        ScaledGroup(model=group.model.name, accelerator=group.accelerator.name,
                    min_replicas=bounds(fleet, group)[0], max_replicas=bounds(fleet, group)[1],
                    mean_replicas=held_s / scaling.end_s if scaling.end_s > 0 else 0.0,
                    peak_replicas=max(one.held for one in scaling.changes if one.group == number),
                    gpu_hours=held_s * group.parallelism.num_accelerators / HOUR_S, cost=cost,
                    cost_per_hour=replica_per_hour(fleet, group), energy_kwh=energy.kwh,
                    carbon_kg=energy.carbon_kg,
                    start_parts_s=None if group.start is None else {
                        part.name: part.mean_s for part in start_parts(fleet, number)})
        for number, (group, held_s, cost, energy) in enumerate(zip(
            fleet.replicas, scaling.held_s, _costs(fleet, scaling),
            energies(fleet, result, scaling.changes), strict=True)))
    policy = fleet.policies.scale
    return Scaling(
        policy=policy.name, settings=dict(policy.options),
        mean_replicas=sum(group.mean_replicas for group in groups),
        peak_replicas=_peak(scaling), gpu_hours=sum(group.gpu_hours for group in groups),
        cost=sum(group.cost for group in groups), starts=scaling.num_starts,
        stops=scaling.num_stops, failed_starts=scaling.num_failed_starts,
        failures=scaling.num_failures, reclaims=scaling.num_reclaims, groups=groups,
        changes=scaling.changes, num_deferred=scaling.num_deferred,
        deferred_mean_s=scaling.deferred_s / scaling.num_deferred if scaling.num_deferred else None,
        energy_kwh=total([one.energy_kwh for one in groups]),
        carbon_kg=total([one.carbon_kg for one in groups]),
        power_coverage=coverage(fleet, [one.gpu_hours for one in groups]),
        decisions=tuple(ScalingChoice(
            at_s=one.at_s, before=one.before, targets=one.targets,
            reason=one.decision.reason, terms=dict(one.decision.terms),
            attainment=one.decision.attainment, next_best=_set_aside(one.decision),
            seen=one.seen) for one in scaling.decided),
        calibrated=tuple(map(_calibrated, scaling.learned)))


def _calibrated(one: LearnedTimes) -> CalibratedTimes:
    values, low, high = ({name: bounds[place] for name, bounds in one.parameters.items()}
                         for place in range(3))
    return CalibratedTimes(group=one.group, values=values, low=low, high=high,
                           unidentified=one.unidentified, speed=one.speed,
                           num_points=one.num_points, num_drifts=one.num_drifts)


def _set_aside(decision: ScalingDecision) -> ScalingAlternative | None:
    one = decision.next_best
    return None if one is None else ScalingAlternative(targets=one.targets,
                                                       attainment=one.attainment)


def _costs(fleet: Fleet, scaling: ScalingRun) -> list[float]:
    """Return each group's cost."""
    return [held_s / HOUR_S * replica_per_hour(fleet, group)
            for group, held_s in zip(fleet.replicas, scaling.held_s, strict=True)]


def _peak(scaling: ScalingRun) -> int:
    """Return the most replicas whose accelerators were held at one time."""
    present: dict[int, int] = {}
    peak = 0
    for _, changes in groupby(scaling.changes, key=lambda one: one.at_s):
        present.update((one.group, one.held) for one in changes)
        peak = max(peak, sum(present.values()))
    return peak
