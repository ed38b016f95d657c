"""llama.cpp models that are loaded and freed inside the gateway's process."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.slo import ServiceClass, Slo
from penstock.engines.actuators.protocol import ActuatorError
from penstock.engines.embedded.options import EmbeddedOptions
from penstock.engines.llamacpp.actuator import LlamaCppActuator
from penstock.engines.llamacpp.serve import LlamaSettings
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.policy.schedule.options import PRESETS
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support.ten_models import CONFIG, NAMES, PENSTOCK, ask, loads, serve_ten


def actuator(file: Path) -> LlamaCppActuator:
    one = ServiceClass("chat", Slo())
    return LlamaCppActuator(LlamaSettings(file, "tiny", kv_tokens=1024, num_threads=1),
                            EmbeddedOptions(PRESETS["penstock"], (one,), one), lambda _: None)


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


def test_ten_real_models_with_memory_for_two_are_all_served(tiny_gguf_file: Path, tmp_path: Path,
                                                            repository: Path) -> None:
    serve_ten(repository, tmp_path, [
        *PENSTOCK, "engine", str(tiny_gguf_file), "--name", "{model}", "--port", "{port}",
        "--kv-tokens", "4096", "--threads", "1"])


def test_two_real_models_take_turns_in_the_gateway_s_own_process(tiny_gguf_file: Path,
                                                                 tmp_path: Path) -> None:
    """Loads and frees are calls: no process is started, and the answers are a quiet engine's."""
    fleet = parse_fleet(json.dumps({
        "accelerators": [{"name": "h100-80gb"}],
        "models": [{"name": name, "config": "config.json"} for name in NAMES[:2]],
        "service_classes": [{"name": "patient"}],
        "traffic": [{"model": "auto", "rate_per_s": 1,
                     "lengths": {"prompt": {"fixed": 9}, "output": {"fixed": 9}}}],
        "multiplexing": [{"name": "cpu", "memory_gib": 15, "models": [
            {"model": name, "size_gib": 10, "load_s": 0.1, "max_batch": 4,
             "engine": {"kind": "llamacpp", "file": str(tiny_gguf_file), "kv_tokens": 1024,
                        "threads": 1}} for name in NAMES[:2]]}]}), base=with_config(tmp_path))

    async def run() -> list[str]:
        async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits()) as (url, _), \
                aiohttp.ClientSession(url) as session:
            texts = []
            for name in (*NAMES[:2], *NAMES[:2]):
                status, document = await ask(session, name, temperature=0)
                assert status == 200, document
                assert document["model"] == name
                texts.append(str(document["choices"][0]["text"]))
            assert await loads(session, NAMES[0]) == 2
            return texts

    assert len(set(asyncio.run(run()))) == 1  # the same file under two names


def with_config(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder
