"""llama.cpp models that are loaded and freed inside the gateway's process."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.slo import ServiceClass, Slo
from penstock.engine.inside.options import InsideOptions
from penstock.engine.live.llamacpp.serve import LlamaSettings
from penstock.engine.live.residency.actuator import ActuatorError
from penstock.engine.live.residency.llamacpp import LlamaCppActuator
from penstock.policy.schedule.options import PRESETS


def actuator(file: Path) -> LlamaCppActuator:
    one = ServiceClass("chat", Slo())
    return LlamaCppActuator(LlamaSettings(file, "tiny", kv_tokens=1024, num_threads=1),
                            InsideOptions(PRESETS["penstock"], (one,), one), lambda _: None)


async def said(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.post(
            f"{url}/v1/completions", json={"model": "tiny", "prompt": "water", "max_tokens": 6,
                                           "temperature": 0}) as answer:
        return str((await answer.json())["choices"][0]["text"])


def test_a_model_is_loaded_answers_is_freed_and_loaded_again(tiny_gguf_file: Path) -> None:
    async def run() -> None:
        one = actuator(tiny_gguf_file)
        assert one.url is None
        await one.prefetch()
        texts = []
        for _ in range(2):
            await one.load()
            assert await one.is_loaded()
            assert one.url is not None
            texts.append(await said(one.url))
            gone = one.url
            await one.unload()
            assert not await one.is_loaded()
            with pytest.raises(aiohttp.ClientConnectorError):
                await said(gone)
        assert texts[0] == texts[1] != ""
        await one.close()

    asyncio.run(run())


def test_a_load_that_is_given_up_is_freed(tiny_gguf_file: Path) -> None:
    async def run() -> None:
        one = actuator(tiny_gguf_file)
        loading = asyncio.ensure_future(one.load())
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        await one.unload()
        assert one.url is None
        await one.load()
        assert await one.is_loaded()
        await one.close()

    asyncio.run(run())


def test_a_file_that_is_no_model_says_so(tmp_path: Path, tiny_gguf_file: Path) -> None:
    async def run() -> None:
        wrong = tmp_path / "wrong.gguf"
        wrong.write_bytes(b"GGUF, but no more than that")
        one = actuator(wrong)
        with pytest.raises(ActuatorError, match="cannot load it"):
            await one.load()
        assert not await one.is_loaded()
        await one.unload()
        good = actuator(tiny_gguf_file)
        await good.load()
        two = replace(good._settings, port=int(str(good.url).rpartition(":")[2]))
        taken = LlamaCppActuator(two, good._options, lambda _: None)
        with pytest.raises(ActuatorError, match="cannot listen"):
            await taken.load()
        await good.close()

    asyncio.run(run())
