"""Devices that are left, by pool."""

from collections.abc import Mapping

from penstock.published.inferno.values import Allocation, Server, System


class Pools:
    """Free devices by accelerator type; a type without a count has none."""

    def __init__(self, system: System, devices: Mapping[str, int]) -> None:
        self._system = system
        self._free = dict(devices)

    def room(self, candidate: Allocation, server: Server) -> int:
        """How many of the candidate's replicas still fit; all that it wants where it needs none."""
        if candidate.num_replicas == 0 or not candidate.accelerator:
            return candidate.num_replicas
        pool, devices = self._system.units(candidate, server)
        return self._free.get(pool, 0) // devices

    def take(self, candidate: Allocation, server: Server, num_replicas: int) -> None:
        """Use the devices of so many replicas, which must fit."""
        if num_replicas:
            pool, devices = self._system.units(candidate, server)
            self._free[pool] -= num_replicas * devices


def used_devices(system: System, parts: Mapping[str, tuple[Allocation, ...]]) -> dict[str, int]:
    """Devices in use by pool, of all parts of all servers."""
    used: dict[str, int] = dict.fromkeys(system.capacity or {}, 0)
    for name, allocations in parts.items():
        for allocation in allocations:
            if allocation.num_replicas:
                pool, devices = system.units(allocation, system.servers[name])
                used[pool] = used.get(pool, 0) + devices * allocation.num_replicas
    return used
