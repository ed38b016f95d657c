"""Polls engines for health and load (aiohttp)."""

import asyncio
from collections.abc import Callable, Sequence
from math import ceil

import aiohttp

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineState
from penstock.engines.engine import engine_of

_MOST_BYTES = 4 * 2**20
_TURN_S = 0.025  # about, between two turns


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
        """Poll until cancelled. A slow engine delays no other, and new engines are included.

        The engines take turns over the period: a look at all of them at once would hold up the
        requests of that moment.
        """
        asked: dict[EngineState, asyncio.Task[None]] = {}
        try:
            while True:
                engines = list(self._engines)
                at_once = max(1, ceil(len(engines) * _TURN_S / self._period_s))
                num_turns = max(1, ceil(len(engines) / at_once))
                for turn in range(num_turns):
                    for engine in engines[turn * at_once:(turn + 1) * at_once]:
                        if engine not in asked:
                            asked[engine] = asyncio.create_task(self._look_at(engine))
                    await asyncio.sleep(self._period_s / num_turns)
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
