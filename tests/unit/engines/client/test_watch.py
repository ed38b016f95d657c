"""Engines are polled in turns, and all of them within a period."""

import asyncio

import pytest

from penstock.engines.client.state import EngineFacts, EngineState
from penstock.engines.client.watch import Watcher


@pytest.mark.parametrize(("period_s", "at_once"), [(100.0, 1), (1.0, 3), (0.01, 100)])
def test_engines_take_turns(period_s: float, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    engines = [EngineState(EngineFacts(number, f"http://10.0.0.{number}", "m", None, 1000, 1.0))
               for number in range(100)]
    seen: list[EngineState] = []
    slept: list[float] = []
    real_sleep = asyncio.sleep

    async def look(_: Watcher, engine: EngineState) -> None:
        seen.append(engine)

    async def run() -> None:
        ended = asyncio.Event()

        async def sleep(wait_s: float) -> None:
            slept.append(wait_s)
            if sum(slept) >= period_s * 0.9999:
                ended.set()
                await asyncio.Event().wait()  # for ever
            await real_sleep(0)

        monkeypatch.setattr("penstock.engines.client.watch.asyncio.sleep", sleep)
        monkeypatch.setattr(Watcher, "_look_at", look)
        watching = asyncio.create_task(
            Watcher(engines, None, lambda: 0.0, period_s).run())  # type: ignore[arg-type]
        await ended.wait()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(run())
    assert seen == engines
    assert len(slept) == -(-100 // at_once)
