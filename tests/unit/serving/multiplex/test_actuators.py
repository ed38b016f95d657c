"""Engines that run by themselves, told over HTTP what to hold."""

import asyncio

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.engines.actuators.protocol import ActuatorError
from penstock.engines.llamacpp.router_actuator import LlamaServerActuator
from penstock.engines.ollama.actuator import OllamaActuator
from penstock.engines.vllm.actuator import VllmActuator
from support.fake_http_engines import nobody, whole
from support.fake_loading_servers import LlamaRouter, SleepingVllm, SwappingOllama, never, serving


def against(server, make, work):
    """What ``work`` does with an actuator of a server."""
    async def run():
        async with serving(server.app()) as url, aiohttp.ClientSession() as session:
            await work(make(session, url), url)

    asyncio.run(run())


def there_and_back(server, make):
    async def work(one, url):
        assert not await one.is_loaded()
        assert one.url is None
        await one.unload()  # harmless
        await one.load()
        assert await one.is_loaded()
        assert one.url == url
        await one.load()  # harmless
        await one.unload()
        assert not await one.is_loaded()
        assert one.url is None
        await one.load()
        await one.close()
        assert await one.is_loaded()  # it is not ours to end

    against(server, make, work)


def test_vllm_sleeps_and_wakes() -> None:
    server = SleepingVllm()
    there_and_back(server, VllmActuator)
    assert server.asked == ["wake weights,kv_cache", "sleep 1", "wake weights,kv_cache"]


def test_weights_that_were_discarded_are_read_again_before_the_cache_is_made() -> None:
    server = SleepingVllm(discarded=True)
    there_and_back(server, lambda session, url: VllmActuator(session, url, 2))
    again = ["wake weights", "reload_weights", "wake kv_cache"]
    assert server.asked == [*again, "sleep 2", *again]


def test_vllm_that_cannot_sleep_says_what_it_needs() -> None:
    async def work(one, url):
        with pytest.raises(ActuatorError, match="--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"):
            await one.load()

    against(SleepingVllm(dev_mode=False), VllmActuator, work)


def test_vllm_that_does_not_sleep_when_told_holds_its_memory() -> None:
    async def work(one, url):
        await one.load()
        with pytest.raises(ActuatorError, match="does not sleep after it was put to sleep"):
            await one.unload()

    against(SleepingVllm(stays_awake=True), VllmActuator, work)


def test_ollama_keeps_and_lets_go() -> None:
    server = SwappingOllama()
    there_and_back(server, lambda session, url: OllamaActuator(session, url, "a"))
    assert server.asked == [("a:latest", "", -1), ("a:latest", "", -1), ("a:latest", "", 0),
                            ("a:latest", "", -1)]


def test_ollama_that_moves_models_itself_is_seen_through() -> None:
    async def work(one, url):
        await one.load()
        async with aiohttp.ClientSession() as session:
            await OllamaActuator(session, url, "b").load()
        assert not await one.is_loaded()

    against(SwappingOllama(), lambda session, url: OllamaActuator(session, url, "a"), work)


def test_ollama_s_own_words_are_passed_on() -> None:
    async def work(one, url):
        with pytest.raises(ActuatorError, match=r"answered 404: model 'z' not found"):
            await one.load()

    against(SwappingOllama(), lambda session, url: OllamaActuator(session, url, "z"), work)


def test_ollama_without_room_is_noticed() -> None:
    async def work(one, url):
        with pytest.raises(ActuatorError, match="did not keep a; is there room"):
            await one.load()

    class Full(SwappingOllama):
        async def _ps(self, _):
            return await whole({"models": []})(_)

    against(Full(), lambda session, url: OllamaActuator(session, url, "a"), work)


def test_llama_cpp_s_router_loads_and_unloads() -> None:
    server = LlamaRouter()
    there_and_back(server, lambda session, url: LlamaServerActuator(session, url, "a"))
    assert server.asked == [("load", "a"), ("unload", "a"), ("load", "a")]


@pytest.mark.parametrize(("name", "said"), [
    ("b", "b ended with exit code 1 while it was loaded"), ("z", "has no model z")])
def test_a_router_s_failure_has_a_reason(name, said) -> None:
    async def work(one, url):
        with pytest.raises(ActuatorError, match=said):
            await one.load()

    against(LlamaRouter(broken=("b",)),
            lambda session, url: LlamaServerActuator(session, url, name), work)


MAKERS = [VllmActuator, lambda session, url: OllamaActuator(session, url, "a"),
          lambda session, url: LlamaServerActuator(session, url, "a")]


@pytest.mark.parametrize("make", MAKERS, ids=["vllm", "ollama", "llama-server"])
def test_an_engine_that_nobody_runs_holds_nothing_and_loads_nothing(make) -> None:
    async def run():
        async with nobody() as url, aiohttp.ClientSession() as session:
            one = make(session, url)
            assert not await one.is_loaded()
            await one.unload()
            with pytest.raises(ActuatorError, match="does not answer"):
                await one.load()

    asyncio.run(run())


@pytest.mark.parametrize("make", MAKERS, ids=["vllm", "ollama", "llama-server"])
def test_an_engine_that_says_nothing_can_be_given_up(make) -> None:
    async def run():
        async with never() as url, aiohttp.ClientSession() as session:
            asking = asyncio.ensure_future(make(session, url).is_loaded())
            await asyncio.sleep(0.05)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

    asyncio.run(run())


@pytest.mark.parametrize("make", MAKERS, ids=["vllm", "ollama", "llama-server"])
def test_something_else_at_the_address_is_an_error(make) -> None:
    async def run():
        app = aiohttp.web.Application()
        app.router.add_route("*", "/{path:.*}", whole([1]))
        async with serving(app) as url, aiohttp.ClientSession() as session:
            with pytest.raises(ActuatorError):
                await make(session, url).load()

    asyncio.run(run())
