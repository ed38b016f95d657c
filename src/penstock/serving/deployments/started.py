"""Replicas of a fleet file that Penstock itself starts.

Each replica is a deployment of its own. So a replica that dies is restarted, replicas outlive a
gateway that is killed, and the next gateway adopts them (ADR 9). An orderly exit ends them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import InputError
from penstock.fleet.values import Fleet, ReplicaGroup
from penstock.serving.deployments.startable import (
    StartedReplica,
    is_started,
    num_places,
    to_start,
    with_adapters,
)
from penstock.serving.deployments.supervision import supervise

if TYPE_CHECKING:
    from penstock.serving.deployments.deployments import Instance
    from penstock.serving.deployments.replicas import StartedReplicas


@asynccontextmanager
async def started_replicas(fleet: Fleet, folder: Path, note: Callable[[str], None]
                           ) -> AsyncIterator["Started"]:
    """Yield the replicas that Penstock starts, with one controller for each kind of accelerator and
    their state in ``folder``.

    The replicas stop when the context ends normally or with an InputError. When this process is
    killed or fails otherwise, they keep running, and the next process that opens the folder adopts
    them. Raises InputError where another process has the folder open, and for a replica that does
    not start.
    """
    replicas, fleet = to_start(fleet), with_adapters(fleet)
    if not replicas:
        yield Started([], [])
        return
    # Only here, for its memory: most gateways start no replicas.
    from penstock.serving.deployments.replicas import replicas_of_kind

    kinds = dict.fromkeys(one.group.accelerator.name for one in replicas)
    async with AsyncExitStack() as stack:
        groups = [await stack.enter_async_context(replicas_of_kind(
            fleet, [one for one in replicas if one.group.accelerator.name == kind],
            folder / kind, note)) for kind in kinds]
        found = Started(replicas, groups)
        try:
            await asyncio.gather(*(one.start() for one in groups))
            yield found
        except InputError:
            await found.stop()
            raise
        await found.stop()


class Started:
    """All replicas that Penstock starts, and the fleet with their addresses."""

    def __init__(self, replicas: list[StartedReplica], groups: "Sequence[StartedReplicas]") -> None:
        self._replicas = replicas
        self._groups = groups

    def fleet(self, fleet: Fleet) -> Fleet:
        """Return the fleet with an endpoint for every started replica. Raises InputError where the
        file no longer asks for the same started replicas."""
        if to_start(fleet) != self._replicas:
            raise InputError("replicas: the replicas that penstock starts have changed, which "
                             "needs a restart of penstock serve")
        return replace(with_adapters(fleet),
                       replicas=tuple(_with_endpoints(fleet, self._instances())))

    async def run(self, changed: Callable[[], None]) -> None:
        """Supervise the replicas until cancelled. ``changed`` is called when addresses change."""
        await supervise(self._look_after, self._instances, changed)

    async def _look_after(self) -> None:
        await asyncio.gather(*(one.look_after() for one in self._groups))

    async def stop(self) -> None:
        """Ends all replicas."""
        await asyncio.gather(*(one.stop() for one in self._groups))

    def of_group(self, group_number: int) -> "tuple[list[int], StartedReplicas] | None":
        """Return the numbers of a group's replicas and their owner, None where Penstock starts
        none."""
        numbers = [one.number for one in self._replicas if one.group_number == group_number]
        return next(((numbers, one) for one in self._groups if numbers and one.has(numbers[0])),
                    None)

    def _instances(self) -> "dict[int, Instance]":
        return {number: instance for one in self._groups
                for number, instance in one.instances().items()}


def _with_endpoints(fleet: Fleet, instances: "Mapping[int, Instance]") -> Iterator[ReplicaGroup]:
    number = 0
    for group in fleet.replicas:
        if not is_started(group):
            yield group
            number += group.count
            continue
        for _ in range(num_places(fleet, group)):  # each has its own address and name
            found = instances.get(number)
            yield replace(group, count=1, endpoints=(found.url,) if found else (),
                          engine="auto" if group.engine == "emulated" else group.engine,
                          served_as=found.served_as if found else group.served_as)
            number += 1
