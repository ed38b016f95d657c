"""Reservations of device memory: all of a placement or nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from penstock.policy.place.values import Device, Infeasible, Placement, by_id, gib


@dataclass(frozen=True, slots=True)
class Holding:
    """Memory that a deployment holds: reserved while it starts, ``committed`` once it runs."""

    name: str
    placement: Placement
    committed: bool = False
    expires_s: float = inf


class Reservations:
    """The memory of devices and its holders.

    ``used_bytes`` of ``devices`` is memory of other processes. Every method is one atomic step:
    with one thread or event loop as caller, two deployments cannot both get the same memory,
    however their placement and start overlap. Placers should use ``devices()``. A placement is
    refused if another deployment has taken its memory in the meantime.
    """

    def __init__(self, devices: Iterable[Device], holdings: Sequence[Holding] = ()) -> None:
        self._devices = by_id(devices)
        self._lost: set[int] = set()
        self._holdings = {holding.name: holding for holding in holdings}
        self._held = dict.fromkeys(self._devices, 0)
        for holding in holdings:
            self._book(holding.placement, 1)

    def devices(self) -> list[Device]:
        """Return the devices with all holdings counted as used, without failed devices."""
        return [self._beside(device_id) for device_id in sorted(self._devices)
                if device_id not in self._lost]

    def holdings(self) -> list[Holding]:
        """Return all holdings by name."""
        return [self._holdings[name] for name in sorted(self._holdings)]

    def held_bytes(self, device_id: int) -> int:
        """Memory of a device that is reserved or committed."""
        return self._held[device_id]

    def reserve(self, name: str, placement: Placement,
                expires_s: float = inf) -> Holding | Infeasible:
        """Reserve the memory of a placement until it is committed or released, or until
        ``expires_s``.

        Nothing is reserved if any device lacks memory, has failed or is unknown, or if ``name``
        already holds memory.
        """
        if name in self._holdings:
            return Infeasible(f"{name} holds memory already, release it first")
        short = [self._lack(device_id, needed)
                 for device_id, needed in sorted(placement.bytes_by_device.items())]
        lacking = [text for text in short if text]
        if lacking:
            return Infeasible(f"{name}: {'; '.join(lacking)}")
        holding = Holding(name, placement, expires_s=expires_s)
        self._holdings[name] = holding
        self._book(placement, 1)
        return holding

    def commit(self, name: str) -> bool:
        """Mark a deployment as running: its memory is held until it is released. Returns False if
        nothing is held any more, because the reservation expired or a device failed."""
        if name not in self._holdings:
            return False
        self._holdings[name] = replace(self._holdings[name], committed=True, expires_s=inf)
        return True

    def release(self, name: str) -> bool:
        """Release a holding, committed or not. Returns False if there was none."""
        holding = self._holdings.pop(name, None)
        if holding is None:
            return False
        self._book(holding.placement, -1)
        return True

    def expire(self, now_s: float) -> list[str]:
        """Release expired reservations and return their names."""
        over = [name for name in sorted(self._holdings) if self._holdings[name].expires_s <= now_s]
        for name in over:
            self.release(name)
        return over

    def fail(self, device_id: int) -> list[str]:
        """Mark a device as failed. Every holding with a part on it is released on all devices, and
        the device gets nothing until it is observed again. Returns the names of the holdings."""
        self._lost.add(device_id)
        lost = [name for name in sorted(self._holdings)
                if device_id in self._holdings[name].placement.device_ids]
        for name in lost:
            self.release(name)
        return lost

    def observe(self, device: Device) -> None:
        """Apply a monitor's reading. Its ``used_bytes`` include the memory of these deployments.

        On a device without holdings, other processes use what was read. Elsewhere they use at least
        as much as before, because a reservation may be only partly loaded, and more if the reading
        exceeds the holdings. A device that had failed or was unknown becomes available.
        """
        device_id = device.device_id
        held = self._held.setdefault(device_id, 0)
        used = device.used_bytes
        if held:
            used = max(self._devices[device_id].used_bytes, used - held)
        self._devices[device_id] = replace(device, used_bytes=used)
        self._lost.discard(device_id)

    def check_integrity(self) -> None:
        """Raises AssertionError if the held memory is not the sum of the holdings."""
        total = dict.fromkeys(self._devices, 0)
        for holding in self._holdings.values():
            for device_id, held in holding.placement.bytes_by_device.items():
                total[device_id] += held
        assert total == self._held, (total, self._held)

    def _beside(self, device_id: int) -> Device:
        device = self._devices[device_id]
        return replace(device, used_bytes=device.used_bytes + self._held[device_id])

    def _lack(self, device_id: int, needed: int) -> str:
        """Return why a device lacks this much memory, empty if it has enough."""
        if device_id not in self._devices:
            return f"device {device_id} is unknown"
        if device_id in self._lost:
            return f"device {device_id} has failed"
        free = self._beside(device_id).free_bytes
        return ("" if needed <= free else
                f"device {device_id} has {gib(free)} free, {gib(needed)} are needed")

    def _book(self, placement: Placement, sign: int) -> None:
        for device_id, held in placement.bytes_by_device.items():
            self._held[device_id] += sign * held
