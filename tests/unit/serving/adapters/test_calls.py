"""Orders to engines that load adapters, as vLLM and SGLang take them."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from penstock.engines.client.state import EngineFacts, EngineState
from penstock.fleet.values_adapters import Adapter
from penstock.serving.adapters.calls import AdapterCalls
from penstock.serving.adapters.shelf import AdapterError

SQL = Adapter("sql", "/a/sql", served_as="s")


@asynccontextmanager
async def engine(**answers):
    """Yield the calls of an engine that gives answers by path, and the orders that it got."""
    orders = []

    async def answer(http):
        path = http.path.removeprefix("/")
        orders.append((path, await http.json() if http.method == "POST" else None))
        found = answers.get(path.replace("/", "_"), (404, '{"detail": "Not Found"}'))
        return web.Response(status=found[0], text=found[1])

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        yield AdapterCalls(session), EngineState(
            EngineFacts(0, url, "m", None, 100, 1.0)), orders
    await runner.cleanup()


def run(test):
    return asyncio.run(test())


@pytest.mark.parametrize("answer", [
    (200, "Success"), (400, "The lora adapter 's' has already been loaded.")])
def test_vllm_loads_under_v1(answer):
    async def test():
        async with engine(v1_load_lora_adapter=answer) as (calls, one, orders):
            await calls.load(one, SQL)
            assert orders == [("v1/load_lora_adapter", {"lora_name": "s", "lora_path": "/a/sql"})]

    run(test)


def test_sglang_loads_elsewhere():
    async def test():
        async with engine(load_lora_adapter=(200, '{"success": true}'),
                          unload_lora_adapter=(200, "{}")) as (calls, one, orders):
            await calls.load(one, SQL)
            await calls.unload(one, "s")
            assert [path for path, _ in orders] == [
                "v1/load_lora_adapter", "load_lora_adapter", "v1/unload_lora_adapter",
                "unload_lora_adapter"]

    run(test)


@pytest.mark.parametrize(("answer", "said"), [
    ((404, "No adapter found: lora at /a/sql"), "No adapter found"),
    ((400, "LoRA rank 64 is greater than max_lora_rank 16"), "rank 64"),
    ((500, "x" * 1000), "x" * 300), (None, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1")])
def test_a_failure_tells_the_engine_s_words_to_operators_alone(answer, said):
    async def test():
        async with engine(**({} if answer is None else {"v1_load_lora_adapter": answer})) as (
                calls, one, _):
            with pytest.raises(AdapterError, match=r"^could not load sql \(status \d+\)$") as error:
                await calls.load(one, SQL)
            assert said in error.value.said
            assert len(error.value.said) <= 300

    run(test)


def test_what_is_not_there_is_unloaded():
    async def test():
        async with engine(v1_unload_lora_adapter=(404, "The lora adapter 's' cannot be found.")
                          ) as (calls, one, _):
            await calls.unload(one, "s")
        async with engine(v1_unload_lora_adapter=(500, "busy")) as (calls, one, _):
            with pytest.raises(AdapterError, match="could not unload s"):
                await calls.unload(one, "s")

    run(test)


@pytest.mark.parametrize(("text", "expected"), [
    ('{"data": [{"id": "m", "parent": null}, {"id": "s", "parent": "m"}]}', ["s"]),
    ('{"data": [{"id": "served", "parent": null}]}', []),
    ('{"data": [{"id": "m"}, {"id": "s"}]}', ["s"])])
def test_loaded_adapters_are_listed(text, expected):
    async def test():
        async with engine(v1_models=(200, text)) as (calls, one, _):
            assert list(await calls.listed(one)) == expected

    run(test)


@pytest.mark.parametrize("answer", [(503, ""), (200, "x"), (200, "{}"), (200, '{"data": [3]}')])
def test_an_engine_that_does_not_list_is_an_error(answer):
    async def test():
        async with engine(v1_models=answer) as (calls, one, _):
            with pytest.raises(AdapterError, match="did not list its models"):
                await calls.listed(one)

    run(test)


def test_an_engine_that_is_gone_is_an_error():
    async def test():
        async with engine() as (_calls, one, _):
            pass
        async with aiohttp.ClientSession() as session:
            with pytest.raises(AdapterError, match="did not answer load_lora_adapter"):
                await AdapterCalls(session).load(one, SQL)

    run(test)
