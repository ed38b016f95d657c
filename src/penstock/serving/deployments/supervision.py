"""Looks at running engines again and again, and tells when any of them has changed."""

import asyncio
from collections.abc import Awaitable, Callable

_LOOK_S = 1.0


async def supervise(look: Callable[[], Awaitable[object]], instances: Callable[[], object],
                    changed: Callable[[], None]) -> None:
    """Await ``look`` every second until cancelled, and call ``changed`` where ``instances`` differ
    from those of the last look. A change may also come between two looks."""
    known = instances()
    while True:
        await asyncio.sleep(_LOOK_S)
        await look()
        before, known = known, instances()
        if known != before:
            changed()
