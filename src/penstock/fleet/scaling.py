"""Fleets whose number of replicas a policy changes: their bounds, and problems of their file."""

from collections.abc import Iterator
from dataclasses import replace

from penstock.fleet.document import FleetDocument, ReplicaSection
from penstock.fleet.problems import Problem
from penstock.fleet.scaler_file import stated_scaler
from penstock.fleet.starts import spread_problem, start_problems
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.registry.policies import SCALERS

MOST_REPLICAS = 1000


def scaling_problems(document: FleetDocument, *, to_plan: bool = False) -> Iterator[Problem]:
    """Yield problems of replicas that a policy scales, and of bounds without such a policy. With
    ``to_plan``, there may be no replicas yet."""
    choice = stated_scaler(document)
    name = choice if isinstance(choice, str) else choice.name
    if not SCALERS.knows(name):
        return  # the unknown name is a problem of its own
    scales = name != "none"
    if scales and not document.replicas and not to_plan:
        yield Problem(("policies", "scale"), "changes the number of replicas, and the file states "
                                             "none; expected replicas")
    if scales and (text := spread_problem(document)):
        yield Problem(("scaling", "start_spread"), text)
    for i, section in enumerate(document.replicas or ()):
        for key, text in _bound_problems(section, document, scales=scales):
            yield Problem(("replicas", i, key), text)


def _bound_problems(section: ReplicaSection, document: FleetDocument, *,
                    scales: bool) -> Iterator[tuple[str, str]]:
    if not scales:
        if section.count == 0:
            yield "count", "expected at least 1, found 0 (0 needs policies.scale)"
        for key in ("min_replicas", "max_replicas", "start_s", "start", "spot"):
            if getattr(section, key) is not None:
                yield key, ("is of replicas that a policy may stop, and policies.scale is none"
                            if key == "spot" else
                            "bounds a policy, and policies.scale is none")
        return
    least, most = section.min_replicas, section.max_replicas
    if least is not None and section.count < least:
        yield "min_replicas", f"{least} is more than count, {section.count}"
    if most is not None and section.count > most:
        yield "max_replicas", f"{most} is fewer than count, {section.count}"
    limited = any(one.count is not None for one in document.accelerators
                  if section.accelerator in (None, one.name))
    if most is None and not limited:
        yield "max_replicas", "is left out; expected a number, since the accelerators have no count"
    if most is not None and most > MOST_REPLICAS:
        yield "max_replicas", f"expected at most {MOST_REPLICAS:,}, found {most:,}"
    yield from start_problems(section, document)


def bounds(fleet: Fleet, group: ReplicaGroup) -> tuple[int, int]:
    """Return the fewest and the most replicas of a group."""
    pool = fleet.pool(group.accelerator.name)
    fewest = min(1, group.count) if group.min_replicas is None else group.min_replicas
    most = MOST_REPLICAS if group.max_replicas is None else group.max_replicas
    if pool.count is not None:
        most = min(most, pool.count // group.parallelism.num_accelerators)
    return fewest, max(most, group.count)


def replica_per_hour(fleet: Fleet, group: ReplicaGroup) -> float:
    """Return the price of one replica of a group for an hour."""
    price = None if group.spot is None else group.spot.price_per_hour
    return group.parallelism.num_accelerators * (
        fleet.pool(group.accelerator.name).price_per_hour if price is None else price)


def replica_power_w(group: ReplicaGroup) -> float:
    """Return the power of one replica's accelerators at full load, by the catalog."""
    return group.parallelism.num_accelerators * group.accelerator.power_w


def num_slots(fleet: Fleet, group: ReplicaGroup) -> int:
    """Return the places for replicas of a group: as many as may run where a policy scales, and as
    many again for replicas that still drain."""
    if not fleet.scales:
        return group.count
    count, width = fleet.pool(group.accelerator.name).count, group.parallelism.num_accelerators
    most = 2 * bounds(fleet, group)[1]
    return most if count is None else min(most, count // width)


def slotted(fleet: Fleet) -> Fleet:
    """Return the fleet with a replica for every place."""
    return replace(fleet, replicas=tuple(replace(group, count=num_slots(fleet, group))
                                         for group in fleet.replicas))
