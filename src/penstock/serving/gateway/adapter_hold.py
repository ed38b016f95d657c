"""Holds the adapter that a request asks for while an engine answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    nullcontext,
)

from penstock.engines.client.state import EngineState
from penstock.fleet.values_adapters import Adapter
from penstock.serving.adapters.adapters import Adapters
from penstock.serving.adapters.shelf import AdapterError
from penstock.serving.gateway.engine_http import EngineAnswer
from penstock.serving.gateway.exchange import Exchange, late

_NOTHING_HELD = nullcontext()


def adapter_held(adapters: Adapters, exchange: Exchange, engine: EngineState,
                 clock: Callable[[], float]) -> AbstractAsyncContextManager[None]:
    """Hold the adapter of a request, if any, on its engine until the context ends. Raises
    AdapterError where it cannot be loaded, and ServiceError where the deadline comes first."""
    adapter = exchange.ask.adapter
    return _NOTHING_HELD if adapter is None else _held(adapters, exchange, engine, adapter, clock)


@asynccontextmanager
async def _held(adapters: Adapters, exchange: Exchange, engine: EngineState, adapter: Adapter,
                clock: Callable[[], float]) -> AsyncIterator[None]:
    ask = exchange.ask
    left_s = None if ask.deadline_s is None else \
        max(0.0, exchange.begun_s + ask.deadline_s - clock())
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(left_s):
                await stack.enter_async_context(adapters.held(engine, adapter))
        except TimeoutError as error:
            raise late(ask) from error
        yield


def check_adapter(adapters: Adapters, exchange: Exchange, engine: EngineState,
                  answer: EngineAnswer) -> None:
    """Raise AdapterError where an answer says that an engine has lost the adapter of a request."""
    adapter = exchange.ask.adapter
    if adapter is not None and answer.status == 404:
        adapters.missing(engine, adapter)
        exchange.lost_adapter = True
        raise AdapterError(f"has lost {adapter.name}")


def is_tried(exchange: Exchange, engine: EngineState) -> bool:
    """Whether an engine that gave no answer is not asked again. One that had lost the adapter is
    asked once more, and then loads it."""
    again = exchange.lost_adapter and engine not in exchange.asked_again
    exchange.lost_adapter = False
    if again:
        exchange.asked_again.append(engine)
    return not again
