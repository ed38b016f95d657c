"""Cards that are left, by pool."""

from collections.abc import Mapping

from penstock.published.inferno.values import Allocation, Server, System


class Pools:
    """Free cards by accelerator type; a type without a count has none."""

    def __init__(self, system: System, cards: Mapping[str, int]) -> None:
        self._system = system
        self._free = dict(cards)

    def room(self, candidate: Allocation, server: Server) -> int:
        """How many of the candidate's replicas still fit; all that it wants where it needs none."""
        if candidate.num_replicas == 0 or not candidate.accelerator:
            return candidate.num_replicas
        pool, cards = self._system.units(candidate, server)
        return self._free.get(pool, 0) // cards

    def take(self, candidate: Allocation, server: Server, num_replicas: int) -> None:
        """Use the cards of so many replicas, which must fit."""
        if num_replicas:
            pool, cards = self._system.units(candidate, server)
            self._free[pool] -= num_replicas * cards


def used_cards(system: System, parts: Mapping[str, tuple[Allocation, ...]]) -> dict[str, int]:
    """Cards in use by pool, of all parts of all servers."""
    used: dict[str, int] = dict.fromkeys(system.capacity or {}, 0)
    for name, allocations in parts.items():
        for allocation in allocations:
            if allocation.num_replicas:
                pool, cards = system.units(allocation, system.servers[name])
                used[pool] = used.get(pool, 0) + cards * allocation.num_replicas
    return used
