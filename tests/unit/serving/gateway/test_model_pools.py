"""A gateway before models that take turns on a device, as clients see it."""

import asyncio
import sys
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")


from penstock.core.errors import InputError
from support.fake_loading_servers import SleepingVllm, SwappingOllama, serving
from support.gateway_before_pool import (
    ENGINE,
    MODELS,
    another,
    ask,
    fleet_of,
    gateway,
    process,
    read,
    text,
)


def test_models_on_one_device_all_answer(tmp_path) -> None:
    async def run():
        async with gateway(fleet_of([process() for _ in MODELS]), tmp_path) as client:
            listed = await read(client, "/v1/models")
            assert [one["id"] for one in listed["data"]] == [*MODELS, "auto"]
            said = await asyncio.gather(*(text(client, name) for name in (*MODELS, *MODELS)))
            assert [one.split()[0] for one in said] == [*MODELS, *MODELS]
            pool, = (await read(client, "/v1/penstock/status"))["pools"]
            device, = pool["devices"]
            assert device["num_loads"] >= 3
            assert len(device["resident"]) == 1
            assert [model["num_started"] for model in pool["models"]] == [2, 2, 2]
            async with client.get("/metrics") as answer:
                shown = (await answer.text()).splitlines()
            assert 'penstock:model_requests_started_total{model_name="mistral-7b",pool="gpu"} 2.0' \
                in shown
            held = [line for line in shown if line.startswith("penstock:model_resident{")]
            assert sorted(line[-3:] for line in held) == ["0.0", "0.0", "1.0"]
            assert any("penstock:model_loads_total{" in line and 'outcome="loaded"' in line
                       for line in shown)
            # Whoever leaves the choice gets what is there.
            name = next(iter(device["resident"]))
            assert (await text(client, "auto")).split()[0] == name
            async with client.get("/health") as answer:
                assert answer.status == 200

    asyncio.run(run())
    assert not list((tmp_path / "engines").glob("*.json"))  # what was begun was ended


def test_an_engine_that_dies_is_begun_again_and_its_request_answered_elsewhere(tmp_path) -> None:
    async def run():
        notes = []
        fleet = fleet_of([process()], MODELS[:1])
        async with gateway(fleet, tmp_path, notes) as client:
            before = await text(client, MODELS[0])
            status, document, headers = await ask(client, MODELS[0], "die")
            assert status == 502, document  # it kills whatever is started for it
            assert document["error"]["code"] == "engines_failed"
            assert headers["X-Penstock-Decision"].startswith("dec-")
            assert any("is gone from device 0" in note for note in notes)
            after = await text(client, MODELS[0])
            assert after != before  # another process

    asyncio.run(run())


def test_an_engine_that_dies_in_the_middle_of_a_stream_is_noticed_at_once(tmp_path) -> None:
    async def run():
        notes = []
        async with gateway(fleet_of([process()], MODELS[:1]), tmp_path, notes) as client:
            async with client.post("/v1/completions", json={
                    "model": MODELS[0], "prompt": "die", "stream": True}) as answer:
                said = await answer.text()
            assert '"text": "a"' in said
            assert "engine_failed" in said
            assert (await text(client, MODELS[0])).split()[0] == MODELS[0]
            assert any("its engine died" in note or "does not answer" in note for note in notes)

    asyncio.run(run())


def test_a_request_that_the_engine_fails_is_tried_again_and_then_told(tmp_path) -> None:
    async def run():
        async with gateway(fleet_of([process()], MODELS[:1]), tmp_path) as client:
            status, document, headers = await ask(client, MODELS[0], "fail")
            assert status == 502
            assert document["error"]["message"].count("answered 500") == 2
            decision = await read(client, "/v1/penstock/decisions/"
                                  + headers["X-Penstock-Decision"])
            assert len(decision["attempts"]) == 2

    asyncio.run(run())


def test_a_model_that_cannot_be_loaded_is_told_with_when_to_come_back(tmp_path) -> None:
    broken = {"kind": "process", "command": [sys.executable, "-c", "exit('no GPU')", "{port}"]}

    async def run():
        fleet = fleet_of([broken, process()], MODELS[:2], load_attempts=1, set_apart_s=30)
        async with gateway(fleet, tmp_path) as client:
            status, document, headers = await ask(client, MODELS[0])
            assert status == 503
            assert document["error"]["code"] == "set_apart"
            assert "no GPU" in document["error"]["message"]
            assert headers["Retry-After"] == "30"
            assert (await text(client, MODELS[1])).split()[0] == MODELS[1]
            pool, = (await read(client, "/v1/penstock/status"))["pools"]
            assert "no GPU" in pool["models"][0]["set_apart"]
            assert list(pool["models"][0]["num_refused"].values()) == [1]
            classes = (await read(client, "/v1/penstock/status"))["classes"]
            assert classes[0]["outcomes"] == {"shed": 1, "finished": 1}

    asyncio.run(run())


def test_a_client_who_leaves_leaves_the_line(tmp_path) -> None:
    slow = {"kind": "process",
            "command": [sys.executable, ENGINE, "{model}", "{port}", "60"]}

    async def run():
        async with gateway(fleet_of([slow], MODELS[:1]), tmp_path) as client:
            asking = asyncio.ensure_future(ask(client, MODELS[0]))
            while not (await model_status(client))["num_waiting"]:
                await asyncio.sleep(0.01)
            asking.cancel()
            while (await model_status(client))["num_waiting"]:
                await asyncio.sleep(0.01)

    asyncio.run(run())


def test_who_waits_when_the_gateway_closes_is_told_so(tmp_path) -> None:
    slow = {"kind": "process",
            "command": [sys.executable, ENGINE, "{model}", "{port}", "60"]}

    async def run():
        async with AsyncExitStack() as clients:  # they outlive the gateway
            async with gateway(fleet_of([slow], MODELS[:1]), tmp_path) as client:
                late = await clients.enter_async_context(another(client))
                asking = asyncio.ensure_future(ask(late, MODELS[0]))
                while not (await model_status(client))["num_waiting"]:
                    await asyncio.sleep(0.01)
            status, document, headers = await asking
            assert (status, document["error"]["code"]) == (503, "closing")
            assert headers["Retry-After"] == "1"

    asyncio.run(run())


async def model_status(client):
    pool, = (await read(client, "/v1/penstock/status"))["pools"]
    return pool["models"][0]


def test_confidential_requests_go_to_confidential_devices_only(tmp_path) -> None:
    async def run():
        async with gateway(fleet_of([process()], MODELS[:1]), tmp_path) as client:
            status, document, _ = await ask(client, MODELS[0], penstock={"confidential": True})
            assert status == 400, document
            assert document["error"]["code"] == "needs_unmet"
            assert "does not run in confidential mode" in document["error"]["message"]

    asyncio.run(run())


def test_vllm_servers_take_turns_by_sleeping(tmp_path) -> None:
    servers = [SleepingVllm(name) for name in ("one", "two")]

    async def run():
        async with serving(servers[0].app()) as first, serving(servers[1].app()) as second:
            fleet = fleet_of([{"kind": "vllm", "endpoints": [url]} for url in (first, second)],
                             MODELS[:2])
            async with gateway(fleet, tmp_path) as client:
                assert await text(client, MODELS[0]) == "from one"
                assert await text(client, MODELS[1]) == "from two"
                assert await text(client, MODELS[0]) == "from one"

    asyncio.run(run())
    assert servers[0].asked == ["wake weights,kv_cache", "sleep 1", "wake weights,kv_cache"]
    assert servers[1].asked == ["wake weights,kv_cache", "sleep 1"]


def test_an_adapter_is_loaded_again_where_its_model_was_asleep(tmp_path) -> None:
    servers = [SleepingVllm(name) for name in ("one", "two")]

    async def run():
        async with serving(servers[0].app()) as first, serving(servers[1].app()) as second:
            fleet = fleet_of([{"kind": "vllm", "endpoints": [url]} for url in (first, second)],
                             MODELS[:2], adapters=[{"name": "sql", "path": "/adapters/sql"}])
            async with gateway(fleet, tmp_path) as client:
                for _ in range(2):
                    assert await text(client, "sql") == "from one with sql"
                assert await text(client, MODELS[0]) == "from one"
                assert await text(client, MODELS[1]) == "from two"
                assert await text(client, "sql") == "from one with sql"

    asyncio.run(run())
    assert servers[0].asked == ["wake weights,kv_cache", "load sql", "sleep 1",
                                "wake weights,kv_cache", "load sql"]


def test_ollama_holds_what_the_policy_says_whatever_clients_ask(tmp_path) -> None:
    server = SwappingOllama()

    async def run():
        async with serving(server.app()) as url:
            fleet = fleet_of([{"kind": "ollama", "endpoints": [url], "served_as": name}
                              for name in ("a", "b")], MODELS[:2])
            async with gateway(fleet, tmp_path) as client:
                assert await text(client, MODELS[0]) == "from a:latest"
                status, document, _ = await ask(client, MODELS[1], keep_alive=0)
                assert (status, document["choices"][0]["text"]) == (200, "from b:latest")

    asyncio.run(run())
    assert [name for name, prompt, _ in server.asked if prompt] == ["a:latest", "b:latest"]
    assert {keep for _, prompt, keep in server.asked if prompt} == {-1}
    assert server.loaded == ["b:latest"]


def test_a_model_without_an_engine_cannot_be_served(tmp_path) -> None:
    async def run():
        async with gateway(fleet_of([None], MODELS[:1]), tmp_path):
            pass

    with pytest.raises(InputError, match="gpu: llama-3-8b has no engine, which serving it needs"):
        asyncio.run(run())
