"""Synchronization with the models that real engines hold: after a restart, periodically, and
whenever an engine fails a request."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from penstock.policy.multiplex.device import Device
from penstock.serving.multiplex.actuator_pool import ActuatorPool
from penstock.serving.multiplex.tickets import Ticket


class ResidentSync:
    """Keeps the residents of ``devices`` in line with their engines. ``note`` gets messages for
    operators.

    ``pause`` begins work during which nothing new starts on a device. ``lost`` gets a resident
    model that is gone, once its engine has been stopped.
    """

    def __init__(self, devices: Sequence[Device], names: Sequence[str], actuators: ActuatorPool,
                 loop: asyncio.AbstractEventLoop, note: Callable[[str], None], *,
                 pause: Callable[[Device, Callable[[], Coroutine[Any, Any, None]]], None],
                 lost: Callable[[int, Device, str], None]) -> None:
        self._devices = devices
        self._names = names
        self._actuators = actuators
        self._loop = loop
        self._note = note
        self._pause = pause
        self._tell_lost = lost
        self._checked: dict[tuple[int, int], asyncio.Future[bool]] = {}
        self._lost: set[tuple[int, int]] = set()

    def lacks_any(self, device: Device) -> bool:
        """Whether a resident of a device is lost and its last request has not ended yet."""
        return any((device.index, model) in self._lost for model in device.residents)

    async def recover(self) -> None:
        """Read the loaded models from all engines. Those that fit become resident, the rest is
        unloaded."""
        for device in self._devices:
            held = await asyncio.gather(*(self._actuators.holds(device.index, model)
                                          for model in range(len(self._names))))
            for model in (model for model, holds in enumerate(held) if holds):
                if device.fits(model):
                    device.hold(model, self._loop.time())
                else:
                    self._note(f"device {device.index} holds {self._names[model]}, for which there "
                               "is no room; it is unloaded")
                    await self._actuators.unload(device.index, model)

    async def keep_if_there(self, device: Device, model: int) -> None:
        """Keep an evicted model resident unless its engine reports it gone."""
        if await self._actuators.holds(device.index, model) is not False \
                and model not in device.residents and device.fits(model):
            device.hold(model, self._loop.time())

    async def look(self) -> None:
        """Check the engines of resident models once."""
        await asyncio.gather(*(self._look_at(device, model) for device in self._devices
                               for model in tuple(device.residents)))

    async def _look_at(self, device: Device, model: int) -> None:
        before = device.residents.get(model)
        holds = await self._actuators.holds(device.index, model)
        # An answer about a model that was swapped in the meantime is ignored.
        if holds is False and device.residents.get(model) is before is not None:
            self._pause(device, partial(self._lose, device, model,
                                        "its engine does not hold it any more"))

    def check(self, ticket: Ticket) -> "asyncio.Future[bool]":
        """Check whether an engine that failed a request still holds its model. Nothing new starts
        on the device until that is known, since it would fail again at once."""
        key, device = (ticket.device, ticket.model), ticket.running.device
        if (found := self._checked.get(key)) is not None:
            return found
        found = asyncio.get_running_loop().create_future()
        if key in self._lost or device.residents.get(ticket.model) is not ticket.running.resident:
            found.set_result(False)
        else:
            self._checked[key] = found
            self._pause(device, partial(self._checking, device, ticket.model, found))
        return found

    async def _checking(self, device: Device, model: int, found: "asyncio.Future[bool]") -> None:
        try:
            holds = await self._actuators.holds(device.index, model)
        except BaseException:
            found.cancel()
            raise
        finally:
            del self._checked[device.index, model]
        found.set_result(holds is True)
        if holds is not True and model in device.residents:
            await self._lose(device, model, "its engine died" if holds is False
                             else "its engine does not answer")

    async def _lose(self, device: Device, model: int, why: str) -> None:
        """Handle the loss of a resident model. Its engine is stopped, so that its running requests
        fail and its memory is freed."""
        key = (device.index, model)
        if key in self._lost or model not in device.residents:
            return
        self._lost.add(key)
        self._note(f"{self._names[model]} is gone from device {device.index}: {why}")
        await self._actuators.unload(device.index, model)
        self.drop_if_lost(device, model)
        self._tell_lost(model, device, why)

    def drop_if_lost(self, device: Device, model: int) -> None:
        """Remove a lost resident once its last request has ended."""
        key, one = (device.index, model), device.residents.get(model)
        if key in self._lost and (one is None or not one.num_running):
            self._lost.discard(key)
            if one is not None:
                device.lose(model)
