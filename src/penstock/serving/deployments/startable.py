"""Replicas of a fleet file that Penstock starts: no endpoints, and an engine with a command."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from penstock.core.configuration import Configuration
from penstock.fleet.values import Fleet, ReplicaGroup

KINDS: Mapping[str, str] = MappingProxyType({
    "emulated": "emulate", "llamacpp": "llamacpp", "vllm": "vllm"})
"""Engines that can be started: the fleet file's name and the deployments' name of each."""


@dataclass(frozen=True, slots=True)
class StartedReplica:
    """A replica to be started: its number in the fleet and its group."""

    number: int
    group: ReplicaGroup

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


def to_start(fleet: Fleet) -> list[StartedReplica]:
    """Return the replicas that Penstock starts, numbered among all replicas of the fleet."""
    numbered = enumerate(group for group in fleet.replicas for _ in range(group.count))
    return [StartedReplica(number, group) for number, group in numbered if is_started(group)]
