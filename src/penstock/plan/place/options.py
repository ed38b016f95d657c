"""Configurations and device sets of deployments that share devices, and arrivals to plan for."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.core.configuration import Configuration
from penstock.policy.queue.values import Shared


@dataclass(frozen=True, slots=True)
class PlacementOption:
    """One way to run a deployment: the seconds of a request alone, and the bytes on each device of
    a replica. Up to ``max_batch`` requests may start together; each request beyond the first adds
    the share ``growth`` of the time of one."""

    configuration: Configuration
    work_s: float
    device_bytes: int
    growth: float = 1.0
    max_batch: int = 1

    @property
    def num_devices(self) -> int:
        """Devices of one replica."""
        return self.configuration.parallelism.num_accelerators

    @property
    def device_s(self) -> float:
        """Device-seconds of a request that is alone."""
        return self.work_s * self.num_devices

    @property
    def least_device_s(self) -> float:
        """Device-seconds of a request in a full batch."""
        return self.device_s * min(1.0, self.growth_of(self.max_batch) / self.max_batch)

    def growth_of(self, batch: int) -> float:
        """Time of a batch over that of one request."""
        return 1.0 + self.growth * (batch - 1)


@dataclass(frozen=True, slots=True)
class PlacedReplicas:
    """A deployment's option and the device sets of its replicas."""

    way: PlacementOption
    device_sets: tuple[frozenset[int], ...]

    @property
    def devices(self) -> frozenset[int]:
        """All devices; the sets are disjoint."""
        return frozenset().union(*self.device_sets)


@dataclass(frozen=True, slots=True)
class Forecast:
    """Arrivals to be planned for, in order of time: moments, and deployments by their place."""

    arrival_s: tuple[float, ...]
    deployment: tuple[int, ...]


def shared_of(seats: Sequence[PlacedReplicas]) -> list[Shared]:
    """Seats as queues know them: of a deployment's sets, those first that fewest others want."""
    wanted: dict[int, int] = {}
    for seat in seats:
        for device in seat.devices:
            wanted[device] = wanted.get(device, 0) + 1
    return [Shared(_by_demand(seat, wanted), seat.way.work_s, seat.way.max_batch)
            for seat in seats]


def _by_demand(seat: PlacedReplicas, wanted: dict[int, int]) -> tuple[frozenset[int], ...]:
    return tuple(sorted(seat.device_sets, key=lambda devices: (
        sum(wanted[device] for device in devices), sorted(devices))))


def best_ways(ways: Iterable[PlacementOption], close: float = 0.02) -> list[PlacementOption]:
    """Return the fastest option for each number of devices; of about equally fast options, the
    smallest."""
    by_size: dict[int, list[PlacementOption]] = {}
    for way in ways:
        by_size.setdefault(way.num_devices, []).append(way)
    found = []
    for _, group in sorted(by_size.items()):
        quickest_s = min(way.work_s for way in group)
        found.append(min((way for way in group if way.work_s <= (1.0 + close) * quickest_s),
                         key=lambda way: (way.device_bytes, way.work_s)))
    return found
