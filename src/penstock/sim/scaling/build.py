"""Builds the scaling loop of a simulated fleet, and reads its results."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np

from penstock import __version__
from penstock.core.request import Request
from penstock.core.units import to_ps
from penstock.fleet.replica_factory import random_stream
from penstock.fleet.scaler import scaler_of, spending_of
from penstock.fleet.scaling import bounds
from penstock.fleet.starts import start_parts
from penstock.fleet.values import Fleet
from penstock.journal.scaling import ScalingJournal, header
from penstock.metrics.scaling_summary import ScalingEvent
from penstock.policy.scale.deferral import Deferral
from penstock.policy.scale.demand import DemandMeter
from penstock.policy.scale.values import LearnedTimes
from penstock.sim.dispatch import Dispatcher
from penstock.sim.replica import SimReplica
from penstock.sim.scaling.faults import Faults
from penstock.sim.scaling.holding import Holding
from penstock.sim.scaling.loop import Decided, Limits, Record, ScalingLoop
from penstock.sim.scaling.meter import GroupMeter
from penstock.sim.scaling.slots import Slot


@dataclass(frozen=True, slots=True)
class ScalingRun:
    """Result of a scaling loop until ``end_s``: changes of groups, one for each time and group,
    decisions, faults, and by group the replica-seconds for which accelerators were held.
    ``learned`` are the step times that were calibrated. ``num_deferred`` requests were held back,
    for ``deferred_s`` together; None where none may be."""

    changes: tuple[ScalingEvent, ...]
    decided: tuple[Decided, ...]
    held_s: tuple[float, ...]
    num_starts: int
    num_stops: int
    num_failed_starts: int
    num_failures: int
    num_reclaims: int
    end_s: float
    learned: tuple[LearnedTimes, ...] = ()
    num_deferred: int | None = None
    deferred_s: float = 0.0


def scaling_run(loop: ScalingLoop, num_groups: int, end_s: float,
                holding: Holding | None = None) -> ScalingRun:
    """Return the result of a loop whose run ended at ``end_s``. The loop's own last moment may be
    later. ``holding`` has held requests back, None where none may be."""
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
                      loop.num_failed_starts, loop.num_failures, loop.num_reclaims, end_s,
                      loop.learned,
                      None if holding is None else holding.num_deferred,
                      0.0 if holding is None else holding.deferred_s)


def drawn_starts(fleet: Fleet, seed: int) -> Callable[[int], int]:
    """Return a function that draws the start time of a group's replica, in picoseconds: the sum of
    its parts, each lognormal and drawn by itself."""
    rng = random_stream(seed, "starts", 0)
    groups = [[(part.mean_s, float(np.sqrt(np.log1p(part.spread ** 2))))
               for part in start_parts(fleet, number)] for number in range(len(fleet.replicas))]

    def draw(group: int) -> int:
        return to_ps(sum(mean_s * float(rng.lognormal(-sigma * sigma / 2, sigma))
                         if sigma > 0 else mean_s for mean_s, sigma in groups[group]))

    return draw


def drawn_faults(fleet: Fleet, seed: int) -> Faults:
    """Return the faults of a fleet's replicas."""
    return Faults(fleet.scaling.faults, [group.spot for group in fleet.replicas],
                  random_stream(seed, "faults", 0))


def _begun(fleet: Fleet, targets: Sequence[int]) -> Fleet:
    """Return the fleet as a scaler finds it that begins with these numbers of replicas."""
    return replace(fleet, replicas=tuple(replace(group, count=target) for group, target in zip(
        fleet.replicas, targets, strict=True)))


def scaling_loop(fleet: Fleet, number: int, slots: Sequence[Slot], replicas: Sequence[SimReplica],
                 dispatcher: Dispatcher, demand: DemandMeter, renew: Callable[[int], None],
                 seed: int, journal: BinaryIO | None = None,
                 deferral: Deferral[Request] | None = None) -> ScalingLoop:
    """Return the loop as the kernel's source of that number. ``fleet`` states the first number of
    replicas; the other slots are closed. ``journal`` gets every decision. ``deferral`` learns the
    spare capacity."""
    scaler = scaler_of(fleet, seed)
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
                       renew, meters, demand, drawn_faults(fleet, seed),
                       lambda targets: scaler_of(_begun(fleet, targets), seed),
                       None if journal is None else _record(fleet, seed, journal),
                       spending_of(fleet), deferral)


def _record(fleet: Fleet, seed: int, journal: BinaryIO) -> Record:
    policy = fleet.policies.scale
    return ScalingJournal(journal, header(policy.name, policy.options, seed, __version__)).add
