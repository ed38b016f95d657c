"""Work that goes on beside a server's requests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from penstock.engines.beside import beside
from penstock.engines.discreet_log import trace_of

_AFTER_A_BUG_S = 1.0
Work = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def background(work: Iterable[Work], on_bug: Callable[[str], None]) -> AsyncIterator[None]:
    """Run work in the background until the context ends. An error does not stop the other work."""
    async def on_and_on(one: Work) -> None:
        while True:
            try:
                await one()
            except Exception as error:
                on_bug(trace_of(error))
                await asyncio.sleep(_AFTER_A_BUG_S)

    async with beside(*map(on_and_on, work)):
        yield
