"""Replicas of a fleet file that Penstock starts: no endpoints, and an engine with a command."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penstock.core.configuration import Configuration
from penstock.fleet.scaling import num_slots
from penstock.fleet.values import Fleet, ReplicaGroup

KINDS: Mapping[str, str] = MappingProxyType({
    "emulated": "emulate", "llamacpp": "llamacpp", "vllm": "vllm"})
"""Engines that can be started: the fleet file's name and the deployments' name of each."""


@dataclass(frozen=True, slots=True)
class StartedReplica:
    """A replica that can be started: its number in the fleet and its group. ``at_first`` says
    whether the replica starts with the fleet; a policy for the number of replicas may start the
    others later."""

    number: int
    group: ReplicaGroup
    group_number: int = 0
    at_first: bool = True

    @property
    def name(self) -> str:
        """Name of the replica's deployment."""
        return f"replica-{self.number}"

    @property
    def configuration(self) -> Configuration:
        """Configuration of the replica's model."""
        group = self.group
        return Configuration(group.parallelism, group.precision, group.kv_precision)


def is_started(group: ReplicaGroup) -> bool:
    """Whether Penstock starts the replicas of a group."""
    return not group.endpoints and group.engine in KINDS


def num_places(fleet: Fleet, group: ReplicaGroup) -> int:
    """Return the replicas of a group that have numbers: all that may run at once."""
    return num_slots(fleet, group) if is_started(group) else group.count


def to_start(fleet: Fleet) -> list[StartedReplica]:
    """Return the replicas that Penstock may start, numbered among all replicas of the fleet."""
    found: list[StartedReplica] = []
    number = 0
    for group_number, group in enumerate(fleet.replicas):
        count = num_places(fleet, group)
        if is_started(group):
            found += [StartedReplica(number + i, group, group_number, i < group.count)
                      for i in range(count)]
        number += count
    return found
