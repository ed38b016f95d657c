"""Polls engines for health and load (aiohttp)."""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineState
from penstock.engines.engine import engine_of

_MOST_BYTES = 4 * 2**20


class Watcher:
    """Updates every ``EngineState`` each ``period_s``. An answer may take ``timeout_s``."""

    def __init__(self, engines: Sequence[EngineState], session: aiohttp.ClientSession,
                 clock: Callable[[], float], period_s: float = 0.5,
                 timeout_s: float = 2.0) -> None:
        self._engines = engines
        self._session = session
        self._clock = clock
        self._period_s = period_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def look(self) -> None:
        """Poll every engine once."""
        await asyncio.gather(*(self._look_at(engine) for engine in self._engines))

    async def run(self) -> None:
        """Poll until cancelled. A slow engine delays no other, and new engines are included."""
        asked: dict[EngineState, asyncio.Task[None]] = {}
        try:
            while True:
                for engine in self._engines:
                    if engine not in asked:
                        asked[engine] = asyncio.create_task(self._look_at(engine))
                await asyncio.sleep(self._period_s)
                asked = {engine: task for engine, task in asked.items() if not task.done()}
        finally:
            for task in asked.values():
                task.cancel()
            await asyncio.gather(*asked.values(), return_exceptions=True)

    async def _look_at(self, engine: EngineState) -> None:
        try:
            facts = engine.facts
            well, load = await engine_of(engine.kind).look(self._get, facts.url,
                                                           facts.served_as or facts.model)
        except TimeoutError:
            engine.late()
            return
        except (aiohttp.ClientError, OSError, ValueError):
            well, load = False, EngineLoad()
        if well:
            engine.observe(load, self._clock())
        else:
            engine.lost()

    async def _get(self, url: str) -> tuple[int, bytes]:
        """Return status and body, of which the beginning suffices."""
        async with self._session.get(url, timeout=self._timeout) as answer:
            found = b""
            while len(found) < _MOST_BYTES and (part := await answer.content.readany()):
                found += part
            return answer.status, found
