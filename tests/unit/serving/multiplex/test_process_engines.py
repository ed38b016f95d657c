"""A model as a process: started, found again, ended whole."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.engines.actuators.process import ProcessActuator, ProcessCommand
from penstock.engines.actuators.protocol import ActuatorError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")
ENGINE = str(Path(__file__).resolve().parents[3] / "support" / "small_engine.py")


def command(folder, *argv, environment=None):
    return ProcessCommand(argv or (sys.executable, ENGINE, "{model}", "{port}"), "tiny",
                          environment or {}, folder)


def work_with(tmp_path, work, *argv, **more):
    async def run():
        async with aiohttp.ClientSession() as session:
            def make(device=0):
                return ProcessActuator(command(tmp_path, *argv, **more), device, tmp_path,
                                       f"one-{device}", session)
            one = make()
            try:
                await work(one, make, session)
            finally:
                await one.close()

    asyncio.run(run())


async def said(session, url, prompt="hello"):
    async with session.post(f"{url}/v1/completions", json={"prompt": prompt}) as answer:
        return (await answer.json())["choices"][0]["text"]


def test_it_is_started_answers_and_ends(tmp_path) -> None:
    async def work(one, make, session):
        assert not await one.is_loaded()
        await one.load()
        assert await one.is_loaded()
        name, pid = (await said(session, one.url)).split()
        assert name == "tiny"
        await one.load()  # harmless: the same process
        assert (await said(session, one.url)).split()[1] == pid
        await one.unload()
        assert not await one.is_loaded()
        assert one.url is None
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
        assert not (tmp_path / "one-0.json").exists()

    work_with(tmp_path, work)


def test_who_comes_after_a_crash_takes_it_over(tmp_path) -> None:
    async def work(one, make, session):
        await one.load()
        other = make()  # as after a restart
        assert await other.is_loaded()
        assert other.url == one.url
        await other.unload()
        assert not await one.is_loaded()

    work_with(tmp_path, work)


def test_one_that_was_killed_is_seen_and_started_again(tmp_path) -> None:
    async def work(one, make, session):
        await one.load()
        pid = int((await said(session, one.url)).split()[1])
        os.kill(pid, signal.SIGKILL)
        for _ in range(200):
            with suppress(ActuatorError):  # it dies, but is not dead yet
                if not await one.is_loaded():
                    break
            await asyncio.sleep(0.01)
        else:
            raise AssertionError("it is still there")
        assert not await make().is_loaded()
        await one.load()
        assert int((await said(session, one.url)).split()[1]) != pid

    work_with(tmp_path, work)


def test_a_command_that_ends_says_its_last_words(tmp_path) -> None:
    async def work(one, make, session):
        with pytest.raises(ActuatorError, match="ended while it started; its log ends: no GPU"):
            await one.load()

    work_with(tmp_path, work, sys.executable, "-c", "import sys; sys.exit('no GPU here')",
              "{port}")


def test_what_an_earlier_process_said_is_none_of_its_words(tmp_path) -> None:
    (tmp_path / "one-0.log").write_text("prompt: 'a secret of somebody'\n")

    async def work(one, make, session):
        with pytest.raises(ActuatorError, match="ended while it started") as caught:
            await one.load()
        assert "secret" not in str(caught.value)

    work_with(tmp_path, work, sys.executable, "-c", "exit()", "{port}")


def test_a_load_that_is_given_up_leaves_nothing(tmp_path) -> None:
    async def work(one, make, session):
        loading = asyncio.ensure_future(one.load())
        while not (tmp_path / "one-0.json").exists():
            await asyncio.sleep(0.01)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert one.url is not None
        await one.unload()
        assert not await make().is_loaded()

    work_with(tmp_path, work, sys.executable, "-c", "import time; time.sleep(60)", "{port}")


def test_words_in_braces_are_filled_in(tmp_path) -> None:
    argv, environment = command(tmp_path, "serve", "--port={port}", "{model}", environment={
        "CUDA_VISIBLE_DEVICES": "{device}", "X": "{other}"}).at(8001, 3)
    assert argv == ["serve", "--port=8001", "tiny"]
    assert environment == {"CUDA_VISIBLE_DEVICES": "3", "X": "{other}"}
