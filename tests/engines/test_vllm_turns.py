"""vLLM's own server put to sleep and woken by its endpoints for that.

Its build for CPUs refuses ``--enable-sleep-mode`` and keeps the memory, but it knows the endpoints
(VLLM_SERVER_DEV_MODE=1), counts itself asleep or awake by them, and reads its weights again.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp
from vllm_server import MODEL, Server, with_tokenizer

from penstock.engines.vllm.actuator import VllmActuator


@pytest.fixture(scope="module")
def server(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with_tokenizer(tiny_llama)
    found = Server(tiny_llama, {"policy": "penstock"},
                   tmp_path_factory.mktemp("vllm") / "log.txt", {"VLLM_SERVER_DEV_MODE": "1"})
    try:
        found.wait_until_ready()
        yield found
    finally:
        found.kill()


@pytest.mark.parametrize("level", [1, 2])
def test_it_sleeps_wakes_and_answers_as_before(server: Server, level: int) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            async def said() -> str:
                async with session.post(f"{server.url}/v1/completions", json={
                        "model": MODEL, "prompt": "t1 t2 t3", "max_tokens": 8,
                        "temperature": 0}) as answer:
                    return str((await answer.json())["choices"][0]["text"])

            one = VllmActuator(session, server.url, level)
            assert await one.is_loaded()
            before = await said()
            await one.unload()
            assert not await one.is_loaded()
            assert one.url is None
            await one.load()
            assert await one.is_loaded()
            assert await said() == before

    asyncio.run(run())
