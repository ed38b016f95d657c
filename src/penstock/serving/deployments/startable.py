"""Replicas of a fleet file that Penstock starts: no endpoints, and an engine with a command."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from penstock.core.configuration import Configuration
from penstock.core.errors import InputError
from penstock.fleet.adapter_costs import rooms_of
from penstock.fleet.scaling import num_slots
from penstock.fleet.values import Fleet, ModelChoice, ReplicaGroup
from penstock.fleet.values_adapters import Adapter

KINDS: Mapping[str, str] = MappingProxyType({
    "emulated": "emulate", "llamacpp": "llamacpp", "sglang": "sglang", "vllm": "vllm"})
"""Engines that can be started: the fleet file's name and the deployments' name of each."""

NAMES = "emulated, llamacpp, sglang or vllm"
"""The engines that can be started, in messages."""

_SERVERS = ("sglang", "vllm")
"""Engines that begin without adapters, and load them from the machine that starts them."""


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


def with_adapters(fleet: Fleet) -> Fleet:
    """Return the fleet with the adapters of started servers as those find them: with an absolute
    path where there is such a file, since an engine runs in a folder of its own.

    Raises InputError for an adapter without a path that only such servers could serve.
    """
    return replace(fleet, models=tuple(
        _with_whole_paths(fleet, number, choice) for number, choice in enumerate(fleet.models)))


def _with_whole_paths(fleet: Fleet, number: int, choice: ModelChoice) -> ModelChoice:
    servers = [i for i, group in enumerate(fleet.replicas) if group.lora is not None
               and group.model.name == choice.spec.name and is_started(group)
               and group.engine in _SERVERS]
    if not servers:
        return choice
    alone = len(servers) == sum(room is not None for room in rooms_of(fleet, choice.spec.name))
    for i, one in enumerate(choice.adapters):
        if one.path is None and alone:
            raise InputError(
                f"models[{number}].adapters[{i}].path: found nothing for {one.name}; expected the "
                f"folder or repository from which {fleet.replicas[servers[0]].engine} loads it, as "
                f"penstock serve starts replicas[{servers[0]}] without adapters")
    return replace(choice, adapters=tuple(map(_with_whole_path, choice.adapters)))


def _with_whole_path(one: Adapter) -> Adapter:
    if one.path is None or not Path(one.path).exists():
        return one
    return replace(one, path=str(Path(one.path).resolve()))
