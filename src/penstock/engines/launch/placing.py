"""Machines of a fleet's replicas: the accelerators of each replica, one machine after another."""

from collections import Counter
from typing import NamedTuple
from urllib.parse import urlsplit

from penstock.core.loopback import is_loopback
from penstock.fleet.kubernetes import num_machines
from penstock.fleet.values import Fleet, ReplicaGroup


class Placed(NamedTuple):
    """A replica of group ``number``, the ``replica``-th there and the ``serial``-th of the fleet.

    It has the same ``devices`` of each of its ``machines``, and is the ``order``-th replica on the
    first. ``shares`` says whether other replicas are there. ``url`` is its endpoint, if stated.
    """

    number: int
    replica: int
    serial: int
    machines: tuple[str, ...]
    devices: tuple[int, ...]
    order: int
    shares: bool
    url: str | None


def placed(fleet: Fleet) -> list[Placed]:
    """Return where each replica runs: on the machine of its endpoint, else on the first machine of
    its accelerator with room. A machine has as many accelerators as the catalog says."""
    machines, found, number_on = _Machines(), list[Placed](), Counter[str]()
    for number, group in enumerate(fleet.replicas):
        for index in range(group.count):
            url = group.endpoints[index] if group.endpoints else None
            names, devices = machines.take(group, url)
            found.append(Placed(number, index, len(found), names, devices, number_on[names[0]],
                                False, url))
            number_on.update(names)
    return [one._replace(shares=number_on[one.machines[0]] > 1) for one in found]


class _Machines:
    """Accelerators in use, by machine."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}

    def take(self, group: ReplicaGroup, url: str | None) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Return the machines of a replica, and its devices on each."""
        num, kind = num_machines(group), group.accelerator
        each = group.parallelism.num_accelerators // num
        host = urlsplit(url).hostname if url else None
        stated = host if host is not None and not is_loopback(host) else None
        if num == 1:
            name = stated or self._with_room(kind.name, each, kind.max_per_node)
            first = self._used.get(name, 0)
            self._used[name] = first + each
            return (name,), tuple(range(first, first + each))
        names = []
        for rank in range(num):
            name = stated if stated is not None and rank == 0 else self._with_room(
                kind.name, kind.max_per_node, kind.max_per_node)
            self._used[name] = kind.max_per_node  # nobody else is on these machines
            names.append(name)
        return tuple(names), tuple(range(each))

    def _with_room(self, kind: str, each: int, most: int) -> str:
        serial = 0
        while self._used.get(f"{kind}-{serial}", 0) + each > most:
            serial += 1
        return f"{kind}-{serial}"
