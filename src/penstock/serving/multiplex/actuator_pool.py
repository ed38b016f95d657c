"""Actuators with time limits: what is done to engines, and what they say, whatever goes wrong."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from penstock.engines.actuators.protocol import Actuator, ActuatorError
from penstock.policy.multiplex.values import Load
from penstock.serving.multiplex.tickets import Rules

T = TypeVar("T")


class ActuatorPool:
    """``actuators[device][model]``, each call of which ends in time. ``loop`` gives the time."""

    def __init__(self, actuators: Sequence[Sequence[Actuator]], rules: Rules,
                 loop: asyncio.AbstractEventLoop) -> None:
        self._actuators = actuators
        self._rules = rules
        self._loop = loop

    def url(self, device: int, model: int) -> str:
        """Return the URL of a model; empty where the model is not loaded."""
        return self._actuators[device][model].url or ""

    async def swap(self, device: int, load: Load, gone: list[int]) -> str | None:
        """Unload what is evicted, then load. Why that failed, None if it did not; ``gone`` keeps
        the evicted that may still be there. Nothing of a load that failed is left behind."""
        try:
            await self._within(self._rules.load_timeout_s, self._swap(device, load, gone))
        except TimeoutError:
            why = f"no load within {self._rules.load_timeout_s:g} s"
        except ActuatorError as error:
            why = str(error)
        except Exception as error:  # a bug of ours must not take the device with it
            why = f"a bug in Penstock: {error!r}"
        else:
            return None
        await self.unload(device, load.model)
        return why

    async def _swap(self, device: int, load: Load, gone: list[int]) -> None:
        for model in load.evict:
            await self._actuators[device][model].unload()
            gone.remove(model)
        await self._actuators[device][load.model].load()

    async def unload(self, device: int, model: int) -> None:
        """Try to; ``holds`` tells whether that did it."""
        await self._quietly(self._actuators[device][model].unload())

    async def prefetch(self, device: int, model: int) -> None:
        """Try to."""
        await self._quietly(self._actuators[device][model].prefetch())

    async def holds(self, device: int, model: int) -> bool | None:
        """Whether an engine holds a model, None where it does not say."""
        try:
            return await self._within(self._rules.answer_s,
                                      self._actuators[device][model].is_loaded())
        except Exception:  # whatever it was, nothing is known
            return None

    async def close(self) -> None:
        """Close all actuators."""
        await asyncio.gather(*(self._quietly(one.close()) for row in self._actuators
                               for one in row))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what may fail, within the time of a load."""
        with suppress(Exception):
            await self._within(self._rules.load_timeout_s, work)

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``; it is cancelled, and TimeoutError raised, after so long."""
        task = asyncio.ensure_future(work)
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = task.cancel()

        timer = self._loop.call_at(self._loop.time() + seconds, expire)
        try:
            return await task
        except asyncio.CancelledError:
            if expired and task.cancelled():
                raise TimeoutError(f"not within {seconds:g} s") from None
            raise
        finally:
            timer.cancel()
