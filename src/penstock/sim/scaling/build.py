"""Builds the scaling loop of a simulated fleet, and reads its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from penstock.core.units import to_ps
from penstock.fleet.capacity import replica_capacity
from penstock.fleet.replica_factory import believed_step_time, random_stream
from penstock.fleet.resolve import kv_tokens
from penstock.fleet.scaling import bounds
from penstock.fleet.values import Fleet
from penstock.metrics.scaling_summary import ScalingEvent
from penstock.policy.scale.protocol import GroupFacts, ScalerContext
from penstock.registry.make import make_scaler
from penstock.sim.dispatch import Dispatcher
from penstock.sim.replica import SimReplica
from penstock.sim.scaling.loop import Decided, Limits, ScalingLoop
from penstock.sim.scaling.meter import DemandMeter, GroupMeter
from penstock.sim.scaling.slots import Slot


@dataclass(frozen=True, slots=True)
class ScalingRun:
    """Result of a scaling loop until ``end_s``: changes of groups, one for each time and group,
    decisions, and by group the replica-seconds for which accelerators were held."""

    changes: tuple[ScalingEvent, ...]
    decided: tuple[Decided, ...]
    held_s: tuple[float, ...]
    num_starts: int
    num_stops: int
    end_s: float


def scaling_run(loop: ScalingLoop, num_groups: int, end_s: float) -> ScalingRun:
    """Return the result of a loop whose run ended at ``end_s``. The loop's own last moment may be
    later."""
    # Several events of a group may share an instant: the last says what holds from then on.
    last = {(one.at_s, one.group): one for one in loop.changes if one.at_s <= end_s}
    changes = sorted(last.values(), key=lambda one: (one.at_s, one.group))
    held_s = [0.0] * num_groups
    present: dict[int, ScalingEvent] = {}
    for change in changes:
        before = present.get(change.group)
        if before is not None:
            held_s[change.group] += before.held * (change.at_s - before.at_s)
        present[change.group] = change
    for group, change in present.items():
        held_s[group] += change.held * (end_s - change.at_s)
    decided = tuple(one for one in loop.decided if one.at_s <= end_s)
    return ScalingRun(tuple(changes), decided, tuple(held_s), loop.num_starts, loop.num_stops,
                      end_s)


def scaler_context(fleet: Fleet, seed: int) -> ScalerContext:
    """Return what the fleet's scaler is built with. Step times are those that policies believe."""
    believed = partial(believed_step_time, fleet=fleet, seed=seed)

    def facts(number: int) -> GroupFacts:
        group = fleet.replicas[number]
        floor, ceiling = bounds(fleet, group)
        hourly = fleet.pool(group.accelerator.name).price_per_hour
        classes = group.service_classes
        return GroupFacts(group.model.name, floor, ceiling, group.count,
                          hourly * group.parallelism.num_accelerators, start_s(fleet, number),
                          kv_tokens(fleet, group), None if classes is None else frozenset(classes))

    return ScalerContext(tuple(facts(number) for number in range(len(fleet.replicas))),
                         {one.name: one for one in fleet.service_classes},
                         tuple(replica_capacity(fleet, group, believed)
                               for group in fleet.replicas))


def start_s(fleet: Fleet, number: int) -> float:
    """Return the expected time from the order of a group's replica until it serves."""
    found = fleet.replicas[number].start_s or fleet.scaling.start_s
    assert found is not None, "the file states a start time"
    return found


def drawn_starts(fleet: Fleet, seed: int) -> Callable[[int], int]:
    """Return a function that draws the start time of a group's replica, in picoseconds."""
    rng = random_stream(seed, "starts", 0)
    spread = float(np.sqrt(np.log1p(fleet.scaling.start_spread ** 2)))
    means = [start_s(fleet, number) for number in range(len(fleet.replicas))]

    def draw(group: int) -> int:
        factor = float(rng.lognormal(-spread * spread / 2, spread)) if spread > 0 else 1.0
        return to_ps(means[group] * factor)

    return draw


def scaling_loop(fleet: Fleet, number: int, slots: Sequence[Slot], replicas: Sequence[SimReplica],
                 dispatcher: Dispatcher, demand: DemandMeter, renew: Callable[[int], None],
                 seed: int) -> ScalingLoop:
    """Return the loop as the kernel's source of that number. ``fleet`` states the first number of
    replicas; the other slots are closed."""
    policy = fleet.policies.scale
    scaler = make_scaler(policy.name, policy.options, scaler_context(fleet, seed))
    names = [pool.accelerator.name for pool in fleet.accelerators]
    limits = [Limits(*bounds(fleet, group), names.index(group.accelerator.name),
                     group.parallelism.num_accelerators) for group in fleet.replicas]
    meters = [GroupMeter(demand) for _ in fleet.replicas]
    num_open = [0] * len(limits)
    for slot in slots:
        replicas[slot.replica_id].meter = meters[slot.group]
        if num_open[slot.group] == fleet.replicas[slot.group].count:
            dispatcher.close(slot.replica_id)
        else:
            num_open[slot.group] += 1
    return ScalingLoop(number, scaler, slots, replicas, dispatcher, limits,
                       [pool.count for pool in fleet.accelerators], drawn_starts(fleet, seed),
                       renew, meters, demand)
