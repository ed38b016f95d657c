"""The scaler of a fleet, and the facts that the scaler is built with."""

from functools import partial
from typing import Any

from penstock.fleet.capacity import replica_capacity, step_tokens
from penstock.fleet.energy import per_hour
from penstock.fleet.replica_factory import believed_step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.scaling import bounds, replica_per_hour
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.protocol import GroupFacts, Scaler, ScalerContext, StepSeconds
from penstock.registry.make import make_scaler


def scaler_of(fleet: Fleet, seed: int) -> Scaler:
    """Return the fleet's scaler, with ``seed`` for errors of its beliefs."""
    policy = fleet.policies.scale
    return make_scaler(policy.name, policy.options, scaler_context(fleet, seed))


def scaler_context(fleet: Fleet, seed: int) -> ScalerContext:
    """Return what the fleet's scaler is built with. Step times are those that policies believe."""
    believed = partial(believed_step_time, fleet=fleet, seed=seed)

    def step_s(group: ReplicaGroup) -> StepSeconds:
        model = believed(group)
        return lambda features: model.seconds(*features)

    def facts(number: int) -> GroupFacts:
        group = fleet.replicas[number]
        floor, ceiling = bounds(fleet, group)
        classes = group.service_classes
        schedule = fleet.schedule_of(group)
        width = group.parallelism.num_accelerators
        return GroupFacts(group.model.name, floor, ceiling, group.count,
                          replica_per_hour(fleet, group),
                          start_s(fleet, number), kv_tokens(fleet, group),
                          None if classes is None else frozenset(classes),
                          schedule.max_num_seqs, step_tokens(schedule), width,
                          per_hour(fleet, group))

    return ScalerContext(tuple(facts(number) for number in range(len(fleet.replicas))),
                         {one.name: one for one in fleet.service_classes},
                         tuple(replica_capacity(fleet, group, believed)
                               for group in fleet.replicas),
                         tuple(step_s(group) for group in fleet.replicas))


def fleet_deferral(fleet: Fleet, seed: int, epoch_s: float = 0.0) -> Deferral[Any] | None:
    """Return what holds the requests of deferrable classes back, None where there are none.
    ``epoch_s`` is the time of the fleet's carbon intensity at the start."""
    if all(one.defer_s is None for one in fleet.service_classes):
        return None
    return Deferral(scaler_context(fleet, seed), fleet.scaling.carbon, epoch_s)


def start_s(fleet: Fleet, number: int) -> float:
    """Return the expected time from the order of a group's replica until it serves."""
    found = fleet.replicas[number].start_s or fleet.scaling.start_s
    assert found is not None, "the file states a start time"
    return found
