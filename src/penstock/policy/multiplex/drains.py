"""Draining residents: they take no more requests, so that another model can have their memory."""

from collections.abc import Callable, Container
from math import ceil

from penstock.policy.multiplex.device import Device


class Drains:
    """By device, the draining residents and the model that will get their memory.

    A drain lasts until that model is loaded, or no request waits for it. If it were reconsidered
    whenever a request ends, the queues of draining residents would grow until they win, and no
    resident would ever leave.
    """

    def __init__(self) -> None:
        self._by_device: dict[int, tuple[int, frozenset[int]]] = {}

    def target(self, device: Device) -> int | None:
        """Return the model that memory is being freed for."""
        found = self._by_device.get(device.index)
        return None if found is None else found[0]

    def leaving(self, device: Device) -> frozenset[int]:
        """Return the draining residents."""
        found = self._by_device.get(device.index)
        return frozenset() if found is None else found[1]

    def begin(self, device: Device, model: int, leaving: tuple[int, ...]) -> None:
        """Begin to drain residents for a model."""
        self._by_device[device.index] = model, frozenset(leaving)

    def end(self, device: Device) -> None:
        """End the drain."""
        self._by_device.pop(device.index, None)

    def review(self, device: Device, waiting: Container[int]) -> None:
        """End the drain where no request waits for its model, or the model is resident."""
        target = self.target(device)
        if target is not None and (target not in waiting or target in device.residents):
            self.end(device)

    def takes(self, device: Device, model: int) -> bool:
        """Whether requests may join a model on a device now."""
        return device.room(model) > 0 and model not in self.leaving(device)


def share(device: Device, model: int, num_waiting: int, devices: list[Device],
          takes: Callable[[Device, int], bool]) -> int:
    """Return how many waiting requests join a model on this device, such that all devices where it
    accepts requests run equally many."""
    running = [one.residents[model].num_running for one in devices if takes(one, model)]
    level = ceil((sum(running) + num_waiting) / len(running))
    return level - device.residents[model].num_running
