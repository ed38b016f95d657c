"""Asks engines again and again whether they are well and how busy they are (aiohttp)."""

import asyncio
from collections.abc import Callable, Sequence

import aiohttp

from penstock.engine.live.metrics_text import EngineLoad, read_load
from penstock.engine.live.state import EngineState

_MOST_METRICS_BYTES = 4 * 2**20


class Watcher:
    """Keeps ``EngineState`` up to date, every ``period_s``; an answer may take ``timeout_s``."""

    def __init__(self, engines: Sequence[EngineState], session: aiohttp.ClientSession,
                 clock: Callable[[], float], period_s: float = 0.5,
                 timeout_s: float = 2.0) -> None:
        self._engines = engines
        self._session = session
        self._clock = clock
        self._period_s = period_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    async def look(self) -> None:
        """Ask every engine once."""
        await asyncio.gather(*(self._look_at(engine) for engine in self._engines))

    async def run(self) -> None:
        """Ask until cancelled; a slow engine holds up no other."""
        await asyncio.gather(*(self._follow(engine) for engine in self._engines))

    async def _follow(self, engine: EngineState) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            await self._look_at(engine)

    async def _look_at(self, engine: EngineState) -> None:
        url = engine.facts.url
        try:
            async with self._session.get(f"{url}/health", timeout=self._timeout) as answer:
                well = answer.status == 200
            load = await self._load(url) if well else EngineLoad()
        except (aiohttp.ClientError, TimeoutError, OSError):
            well, load = False, EngineLoad()
        if well:
            engine.observe(load, self._clock())
        else:
            engine.lost()

    async def _load(self, url: str) -> EngineLoad:
        """What the engine's metrics say; engines without any are well all the same."""
        async with self._session.get(f"{url}/metrics", timeout=self._timeout) as answer:
            if answer.status != 200:
                return EngineLoad()
            return read_load(await answer.content.read(_MOST_METRICS_BYTES))
