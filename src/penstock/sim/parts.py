"""One simulation in several parts, each of which simulates some of the replicas.

A part sees every arrival and routes it like the whole, but only requests for its own replicas go
on. That gives the same times where no choice depends on a replica of another part: the router does
not look at replicas at all, or only at those that may serve the request, which are in one part.
"""

from collections.abc import Sequence
from typing import NamedTuple

from penstock.core.request import AUTO, Request
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.registry.policies import BLIND, BY_SNAPSHOT, ROUTERS
from penstock.workload.workload import Traffic, Workload


class Part(NamedTuple):
    """A part of a simulation: the replicas whose ``owners`` entry is its ``number``."""

    number: int
    owners: tuple[int, ...]

    def has(self, replica_id: int) -> bool:
        """Whether a replica is simulated in this part."""
        return self.owners[replica_id] == self.number


class Elsewhere:
    """The requests of a simulation that other parts than ``part`` simulate."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.requests: list[int] = []  # since they were last taken out

    def takes(self, request: Request, replica_id: int) -> bool:
        """Return whether another part simulates a request that goes to a replica."""
        if self._part.has(replica_id):
            return False
        self.requests.append(request.request_id)
        return True

    def refused(self, request: Request, reason: str) -> None:
        """Take a request that goes to no replica, which the first part tells."""
        self.requests.append(request.request_id)


def parts_of(fleet: Fleet, traffic: Traffic, most: int) -> list[Part]:
    """Return up to ``most`` parts of a simulation with about equal numbers of replicas, none where
    the simulation must be whole."""
    if most < 2 or not _may_split(fleet, traffic):
        return []
    apart = _independent(fleet)
    num = min(most, len(apart))
    if num < 2:
        return []
    owners = [0] * sum(group.count for group in fleet.replicas)
    loads = [0] * num
    for replicas in sorted(apart, key=len, reverse=True):
        owner = loads.index(min(loads))
        loads[owner] += len(replicas)
        for replica_id in replicas:
            owners[replica_id] = owner
    return [Part(number, tuple(owners)) for number in range(num)]


def _may_split(fleet: Fleet, traffic: Traffic) -> bool:
    """Whether nothing but the router connects replicas: no scaling, pools, roles, adapters, or
    shared caches, and no request waits for the end of another."""
    policies = fleet.policies
    return not (
        fleet.scales or fleet.multiplexing or fleet.disaggregation is not None
        or policies.admit.name != "all" or policies.explore
        or any(model.adapters for model in fleet.models)  # routing looks at who has loaded which
        or (isinstance(traffic, Workload) and (traffic.waits or traffic.hash_block_tokens))
        or any(tier.shared for group in fleet.replicas
               for tier in fleet.engine_of(group).kv_tiers))


def routes_blindly(fleet: Fleet) -> bool:
    """Whether the choice of a replica depends on no replica's state."""
    policies = fleet.policies
    return (BLIND in _traits(policies.route.name) and policies.admit.name == "all"
            and not policies.explore)


def _traits(router: str) -> tuple[str, ...]:
    return ROUTERS.entry(router).traits if ROUTERS.knows(router) else ()


def _independent(fleet: Fleet) -> list[list[int]]:
    """Return the replicas in sets, such that no choice in one depends on another."""
    every: list[list[int]] = []
    groups: list[list[int]] = []
    first = 0
    for group in fleet.replicas:
        groups.append(list(range(first, first + group.count)))
        every += [[replica_id] for replica_id in groups[-1]]
        first += group.count
    if routes_blindly(fleet):
        return every
    if (BY_SNAPSHOT not in _traits(fleet.policies.route.name)
            or any(one.model == AUTO for one in fleet.traffic)):
        return [[replica_id for own in groups for replica_id in own]]
    return _together(fleet.replicas, groups)


def _together(groups: Sequence[ReplicaGroup], replicas: Sequence[list[int]]) -> list[list[int]]:
    """Join the replicas of groups that may serve the same requests."""
    found: list[tuple[list[ReplicaGroup], list[int]]] = []
    for group, own in zip(groups, replicas, strict=True):
        joined = [one for one in found if any(_meet(group, other) for other in one[0])]
        found = [one for one in found if one not in joined]
        found.append(([group, *(other for one in joined for other in one[0])],
                      [*own, *(number for one in joined for number in one[1])]))
    return [sorted(numbers) for _, numbers in found]


def _meet(one: ReplicaGroup, other: ReplicaGroup) -> bool:
    """Whether a request may go to either group."""
    return one.model.name == other.model.name and (
        one.service_classes is None or other.service_classes is None
        or bool({*one.service_classes} & {*other.service_classes}))
