"""Actuators with time limits. Every call ends with a result, whatever an engine does."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from penstock.engines.actuators.protocol import Actuator, ActuatorError
from penstock.policy.multiplex.values import Load
from penstock.serving.multiplex.tickets import Rules

T = TypeVar("T")


class ActuatorPool:
    """The ``actuators[device][model]``, with a time limit for each call. ``loop`` gives the
    time."""

    def __init__(self, actuators: Sequence[Sequence[Actuator]], rules: Rules,
                 loop: asyncio.AbstractEventLoop) -> None:
        self._actuators = actuators
        self._rules = rules
        self._loop = loop

    def url(self, device: int, model: int) -> str:
        """Return the URL of a model; empty where the model is not loaded."""
        return self._actuators[device][model].url or ""

    async def swap(self, device: int, load: Load, gone: list[int]) -> str | None:
        """Unload the evicted models, then load. Returns why that failed, or None. ``gone`` keeps
        the evicted models that may still be loaded. A failed load is cleaned up."""
        try:
            await self._within(self._rules.load_timeout_s, self._swap(device, load, gone))
        except TimeoutError:
            why = f"no load within {self._rules.load_timeout_s:g} s"
        except ActuatorError as error:
            why = str(error)
        except Exception as error:  # a bug in Penstock must not disable the device
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
        """Try to unload a model. ``holds`` tells whether it is gone."""
        await self._quietly(self._actuators[device][model].unload())

    async def prefetch(self, device: int, model: int) -> None:
        """Try to prefetch a model."""
        await self._quietly(self._actuators[device][model].prefetch())

    async def holds(self, device: int, model: int) -> bool | None:
        """Whether an engine holds a model, None where the engine does not answer."""
        try:
            return await self._within(self._rules.answer_s,
                                      self._actuators[device][model].is_loaded())
        except Exception:  # whatever the error, the state is unknown
            return None

    async def close(self) -> None:
        """Close all actuators."""
        await asyncio.gather(*(self._quietly(one.close()) for row in self._actuators
                               for one in row))

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work within the time limit of a load, and ignore its errors."""
        with suppress(Exception):
            await self._within(self._rules.load_timeout_s, work)

    async def _within(self, seconds: float, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of ``work``. After ``seconds`` it is cancelled and TimeoutError is
        raised."""
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
