"""Running deployments, and the wait of another deployment on their devices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

from penstock.policy.place.protocol import Placer
from penstock.policy.place.values import Device, Footprint, Infeasible, Placement

_MOST_LEVELS = 8


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests of one kind: their rate, and how long each occupies its devices."""

    rate_per_s: float
    service_s: float

    @property
    def busy(self) -> float:
        """Share of time in which the requests occupy their devices."""
        return self.rate_per_s * self.service_s


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A deployment on some devices. ``traffic`` is None where its rate or the duration of its
    answers is unknown; it then counts as idle. ``placement`` is None where it may not be moved."""

    name: str
    device_ids: frozenset[int]
    traffic: Traffic | None = None
    placement: Placement | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A placement, and the deployments that are already on its devices."""

    placement: Placement
    beside: tuple[Neighbour, ...] = ()


def waiting_s(service_s: float, own_rate_per_s: float, others: Iterable[Traffic]) -> float | None:
    """Return the mean wait for devices that serve one request at a time in order of arrival:
    Poisson arrivals, each kind with its own fixed service time (M/G/1, Pollaczek-Khinchine). None
    where the devices would always be busy."""
    traffic = [Traffic(own_rate_per_s, service_s), *others]
    busy = sum(one.busy for one in traffic)
    if busy >= 1.0:
        return None
    return sum(one.busy * one.service_s for one in traffic) / (2.0 * (1.0 - busy))


def known_traffic(neighbours: Iterable[Neighbour]) -> tuple[Traffic, ...]:
    """Return the known traffic of the neighbours."""
    return tuple(one.traffic for one in neighbours if one.traffic is not None)


def place_beside(placer: Placer, footprint: Footprint, devices: Sequence[Device],
                 neighbours: Sequence[Neighbour], service_s: float,
                 own_rate_per_s: float = 0.0) -> Placed | Infeasible:
    """Return the placement with the least wait. Of equals the first is taken, so that without
    traffic the placer's own choice stands.

    The placer is called with all devices, then with devices below decreasing limits of busy time.
    The wait includes all neighbours on any device of a placement, since a start needs all its
    devices.
    """
    best: Placed | None = None
    least_s = inf
    for offered in _offers(devices, neighbours):
        placement = placer.place(footprint, offered)
        if isinstance(placement, Infeasible):
            if best is None:
                return placement
            break
        own = frozenset(placement.device_ids)
        placed = Placed(placement, tuple(one for one in neighbours if one.device_ids & own))
        wait_s = waiting_s(service_s, own_rate_per_s, known_traffic(placed.beside))
        if best is None or (wait_s is not None and wait_s < least_s):
            best, least_s = placed, inf if wait_s is None else wait_s
    assert best is not None  # the first offer has all devices
    return best


def _offers(devices: Sequence[Device],
            neighbours: Sequence[Neighbour]) -> Iterator[Sequence[Device]]:
    """Yield all devices, then the devices that are busy for at most a share of the time, with
    decreasing shares."""
    busy = {device.device_id: sum(one.traffic.busy for one in neighbours
                                  if one.traffic is not None
                                  and device.device_id in one.device_ids) for device in devices}
    yield devices
    levels = sorted(set(busy.values()), reverse=True)[1:]
    step = max(1, -(-len(levels) // _MOST_LEVELS))
    for level in reversed(levels[::-1][::step]):  # always including the least busy level
        yield [device for device in devices if busy[device.device_id] <= level]
