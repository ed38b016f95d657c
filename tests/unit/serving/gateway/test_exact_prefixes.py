"""The tokens of prompts: given, asked for, or unknown."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest
from aiohttp import web

from penstock.core.request import CONFIDENTIAL
from penstock.core.slo import ServiceClass
from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineFacts, EngineState
from penstock.engines.kv_events.keys import prompt_keys
from penstock.fleet.values_adapters import Adapter
from penstock.policy.route.live_index import LiveIndex
from penstock.serving.gateway.ask import Offer, read_ask
from penstock.serving.gateway.exact_prefixes import ExactPrefixes

OFFER = Offer({"chat": ServiceClass("chat")}, {"m": 4096, "other": 4096})
TOKENS = list(range(50))


@asynccontextmanager
async def prefixes(handler=None, models=("m",), size=16, kind="vllm", events="tcp://*:1"):
    """Yield the prefixes before an engine for each model, and the bodies that it was asked."""
    asked = []

    async def tokenize(http):
        asked.append(await http.json())
        return web.json_response({"tokens": TOKENS}) if handler is None else await handler(http)

    app = web.Application()
    app.router.add_post("/tokenize", tokenize)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    engines = [EngineState(EngineFacts(number, url, model, None, 10_000, 1.0, kind,
                                       kv_events=events)) for number, model in enumerate(models)]
    index = LiveIndex()
    for one in engines:
        one.observe(EngineLoad(), 0.0)
        if size:
            index.measured(one.facts.replica_id, size)
    clock = [0.0]
    async with aiohttp.ClientSession() as session:
        yield ExactPrefixes(index, engines, session, lambda: clock[0]), asked, clock
    await runner.cleanup()


def ask(path="/v1/completions", **body):
    return read_ask(orjson.dumps({"model": "m", **body}), {}, OFFER, path=path)


def counts(found):
    (metric,) = found.collect()
    return {one.labels["tokens"]: int(one.value) for one in metric.samples
            if one.name.endswith("_total") and one.value}


def test_tokens_are_given_or_asked_for():
    async def run():
        async with prefixes() as (found, asked, _):
            exact = await found.of(ask(prompt=list(range(40))))
            assert exact == (40, prompt_keys(range(40), 16), 16)
            exact = await found.of(ask(prompt="a text"), "salt")
            assert exact == (50, prompt_keys(TOKENS, 16, salt="salt"), 16)
            chat = {"messages": [{"role": "user", "content": "hi"}], "tools": []}
            own = ask("/v1/chat/completions", **chat, cache_salt="own", temperature=0)
            own = own._replace(adapter=Adapter("sql", served_as="s"))
            assert await found.of(own) == (50, prompt_keys(TOKENS, 16, "s", "own"), 16)
            assert asked == [{"model": "m", "prompt": "a text"}, {"model": "m", **chat}]
            assert counts(found) == {"given": 1, "tokenized": 2}

    asyncio.run(run())


@pytest.mark.parametrize("body", [
    {"prompt": [1, -1]}, {"prompt": [2**40]}, {"prompt": [1, "x"]}, {"prompt": ["a", "b"]},
    {"prompt": [1.0]}, {"input": "x"}, {"prompt": [True, 2]}])
def test_what_has_no_tokens_is_estimated(body):
    async def run():
        async with prefixes() as (found, asked, _):
            assert await found.of(ask(**body)) is None
            assert counts(found) == {"estimated": 1}
            assert not asked

    asyncio.run(run())


@pytest.mark.parametrize("more", [{"size": 0}, {"models": ("m", "other")}, {"kind": "sglang"}])
def test_without_blocks_or_with_several_models_or_salts_in_vain_tokens_are_estimated(more):
    async def run():
        async with prefixes(**more) as (found, asked, _):
            asking = ask(prompt="x", **({"model": "auto"} if "models" in more else {}))
            assert await found.of(asking, "salt") is None
            assert counts(found) == {"estimated": 1}
            assert not asked

    asyncio.run(run())


def test_engines_without_events_are_not_asked_and_not_counted():
    async def run():
        async with prefixes(events=None) as (found, asked, _):
            assert await found.of(ask(prompt="x")) is None
            assert not counts(found)
            assert not asked

    asyncio.run(run())


def test_a_confidential_prompt_is_shown_to_nobody():
    async def run():
        async with prefixes() as (found, asked, _):
            assert await found.of(ask(prompt="x")._replace(needs=CONFIDENTIAL)) is None
            assert not asked

    asyncio.run(run())


@pytest.mark.parametrize(("status", "content", "num"), [
    (404, b"", 1), (501, b"", 1), (200, b"not json", 1), (200, b"[]", 1),
    (400, b'{"tokens": [1]}', 2), (200, b'{"tokens": ["x"]}', 2), (200, b'{"tokens": 3}', 2),
    (500, b"", 2)])
def test_an_engine_that_cannot_is_left_alone_for_a_while(status, content, num):
    async def refuse(_):
        return web.Response(status=status, body=content)

    async def run():
        async with prefixes(refuse) as (found, asked, clock):
            for _ in range(2):
                assert await found.of(ask(prompt="x")) is None
            assert len(asked) == num, "a fault of the request alone stops nothing"
            clock[0] = 31.0
            await found.of(ask(prompt="x"))
            assert len(asked) == num + 1

    asyncio.run(run())
