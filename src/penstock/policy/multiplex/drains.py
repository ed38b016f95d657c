"""Residents that take no more requests, so that another model can have their memory."""

from collections.abc import Callable, Container
from math import ceil

from penstock.policy.multiplex.device import Device


class Drains:
    """By device, for which model which residents run out.

    It stands until that model is loaded, or nobody waits for it. Were it weighed anew whenever a
    request ends, the lines before the residents that run out would grow until they win, and nobody
    would ever leave.
    """

    def __init__(self) -> None:
        self._by_device: dict[int, tuple[int, frozenset[int]]] = {}

    def target(self, device: Device) -> int | None:
        """The model that memory is being freed for."""
        found = self._by_device.get(device.index)
        return None if found is None else found[0]

    def leaving(self, device: Device) -> frozenset[int]:
        """The residents that run out."""
        found = self._by_device.get(device.index)
        return frozenset() if found is None else found[1]

    def begin(self, device: Device, model: int, leaving: tuple[int, ...]) -> None:
        """Residents run out for a model."""
        self._by_device[device.index] = model, frozenset(leaving)

    def end(self, device: Device) -> None:
        """Nobody has to leave any more."""
        self._by_device.pop(device.index, None)

    def review(self, device: Device, waiting: Container[int]) -> None:
        """End it where nobody waits any longer for the model, or it is resident by now."""
        target = self.target(device)
        if target is not None and (target not in waiting or target in device.residents):
            self.end(device)

    def takes(self, device: Device, model: int) -> bool:
        """Whether requests may join a model on a device now."""
        return device.room(model) > 0 and model not in self.leaving(device)


def share(device: Device, model: int, num_waiting: int, devices: list[Device],
          takes: Callable[[Device, int], bool]) -> int:
    """How many of those who wait join a model on this device, such that all devices where it takes
    requests come to run alike many."""
    running = [one.residents[model].num_running for one in devices if takes(one, model)]
    level = ceil((sum(running) + num_waiting) / len(running))
    return level - device.residents[model].num_running
