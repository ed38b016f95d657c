"""The scaler of a fleet, and the facts that the scaler is built with."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from penstock.fleet.capacity import step_tokens
from penstock.fleet.energy import per_hour
from penstock.fleet.replica_factory import believed_step_time
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.role_capacity import capacity_of
from penstock.fleet.scaling import bounds, replica_per_hour, replica_power_w
from penstock.fleet.starts import start_parts
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.policy.scale.budget import Spending
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.hopeless import LeastTimes, Patience
from penstock.policy.scale.protocol import GroupFacts, Scaler, ScalerContext, StepSeconds
from penstock.registry.make import make_scaler


def scaler_of(fleet: Fleet, seed: int) -> Scaler:
    """Return the fleet's scaler, with ``seed`` for errors of its beliefs."""
    policy = fleet.policies.scale
    return scaler_named(policy.name, policy.options, fleet, seed)


def scaler_named(name: str, settings: Mapping[str, Any], fleet: Fleet, seed: int) -> Scaler:
    """Return a scaler of a fleet by its policy's name. Where the fleet calibrates, the scaler's
    beliefs follow what is learned."""
    context = scaler_context(fleet, seed)
    if not fleet.scaling.calibrate:
        return make_scaler(name, settings, context)
    from penstock.fleet.calibration import calibrating  # loads scipy

    return calibrating(partial(make_scaler, name, settings), context, fleet, seed)


def scaler_context(fleet: Fleet, seed: int) -> ScalerContext:
    """Return what the fleet's scaler is built with. Step times are those that policies believe."""
    believed = partial(believed_step_time, fleet=fleet, seed=seed)

    def step_s(group: ReplicaGroup) -> StepSeconds:
        model = believed(group)
        return lambda features: model.seconds(*features)

    return ScalerContext(tuple(group_facts(fleet, number) for number in range(len(fleet.replicas))),
                         {one.name: one for one in fleet.service_classes},
                         tuple(capacity_of(fleet, group, believed)
                               for group in fleet.replicas),
                         tuple(step_s(group) for group in fleet.replicas),
                         fleet.scaling.budget)


def group_facts(fleet: Fleet, number: int) -> GroupFacts:
    """Return a scaler's facts about a group."""
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
                      replica_power_w(group), per_hour(fleet, group), group.role)


def spending_of(fleet: Fleet) -> Spending | None:
    """Return what replicas take of the fleet's budget, None without a budget."""
    budget = fleet.scaling.budget
    return None if budget is None else Spending(
        budget, [group_facts(fleet, number) for number in range(len(fleet.replicas))])


def patience_of(fleet: Fleet, seed: int) -> Patience | None:
    """Return the function that tells for how long after its arrival a request's objective is within
    reach, None where the file lets requests wait for longer."""
    if fleet.scaling.hold_until != "hopeless":
        return None
    return LeastTimes(scaler_context(fleet, seed)).patience_s


def fleet_deferral(fleet: Fleet, seed: int, epoch_s: float = 0.0) -> Deferral[Any] | None:
    """Return what holds the requests of deferrable classes back, None where there are none.
    ``epoch_s`` is the time of the fleet's carbon intensity at the start."""
    if all(one.defer_s is None for one in fleet.service_classes):
        return None
    return Deferral(scaler_context(fleet, seed), fleet.scaling.carbon, epoch_s)


def start_s(fleet: Fleet, number: int) -> float:
    """Return the expected time from the order of a group's replica until it serves. Raises
    InputError where the file states none."""
    return sum(part.mean_s for part in start_parts(fleet, number))
