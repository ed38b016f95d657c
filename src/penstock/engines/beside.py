"""Work that goes on beside other work, and ends with it; waiting for such work."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def beside(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    """Run work until the context ends, which cancels the work and waits for its end."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def is_set_within(event: asyncio.Event, wait_s: float | None) -> bool:
    """Wait until the event is set, at most ``wait_s`` (None: for ever), and return whether it is
    set."""
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            await event.wait()
    return event.is_set()
