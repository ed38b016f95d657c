"""Adapters behind a gateway: names on offer, loading on demand, rights and prices."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.fleet.values_adapters import Adapter
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.ask import read_ask
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from penstock.serving.gateway.server import gateway_config, offer_of
from support.small_fleet import FLEET

MODELS = [{"name": "llama-3-8b", "price": {"input_per_million": 1, "output_per_million": 2},
           "adapters": [{"name": "sql", "path": "hub/sql", "rank": 8},
                        {"name": "poem", "path": "hub/poem", "served_as": "poems",
                         "service_class": "batch"},
                        {"name": "gone", "path": "/no/such/adapter"}]}]
ROOM = {"max_loras": 1, "max_cpu_loras": 1}


def fleet(urls=(), **overrides):
    replicas = {"count": len(urls) or 1, "lora": ROOM,
                **({"endpoints": list(urls)} if urls else {})}
    return parse_fleet(FLEET, overrides={"models": MODELS, "replicas": [replicas], **overrides})


@asynccontextmanager
async def gateway(count=1, **more):
    """Yield functions that post and get, and the emulated replicas."""
    emulated = parse_fleet(FLEET, overrides={"replicas": [{"count": count, "lora": ROOM}]})
    async with emulated_cluster(emulated, EmulatorOptions(speed=500.0)) as cluster, \
            aiohttp.ClientSession() as session:
        values = fleet([one.url for one in cluster.replicas])
        async with running(values, LeastLoaded(), "127.0.0.1", 0, limits=Limits(), **more) as (
                url, _):
            async def ask(model, base=url, **body):
                async with session.post(f"{base}/v1/completions", json={
                        "model": model, "prompt": "hello", "max_tokens": 3, **body}) as answer:
                    return answer.status, await answer.json(), answer.headers

            async def got(path, base=url):
                async with session.get(f"{base}{path}") as answer:
                    return await (answer.text() if path == "/metrics" else answer.json())

            yield ask, got, cluster.replicas


def loaded(cards):
    return [card["id"] for card in cards["data"] if card["parent"]]


def test_adapters_are_models_to_clients():
    async def run():
        async with gateway() as (ask, got, replicas):
            cards = {card["id"]: card for card in (await got("/v1/models"))["data"]}
            assert cards["sql"]["parent"] == "llama-3-8b"
            assert "parent" not in cards["llama-3-8b"]
            assert cards["sql"]["max_model_len"] == cards["llama-3-8b"]["max_model_len"]
            for name, served in (("sql", "sql"), ("poem", "poems"), ("llama-3-8b", "llama-3-8b")):
                status, answer, headers = await ask(name)
                assert (status, answer["model"]) == (200, served)
                decision = await got(f"/v1/penstock/decisions/{headers['X-Penstock-Decision']}")
                assert decision["model"] == name
            assert loaded(await got("/v1/models", replicas[0].url)) == ["poems"], "one at a time"
            metrics = await got("/metrics")
            assert 'penstock:requests_total{model_name="poem",outcome="finished",' \
                   'service_class="batch"} 1.0' in metrics
            assert f'penstock:adapter_changes_total{{url="{replicas[0].url}",what="unloaded"}} ' \
                   "1.0" in metrics

    asyncio.run(run())


def test_requests_follow_a_loaded_adapter():
    async def run():
        async with gateway(2) as (ask, got, replicas):
            for _ in range(3):
                assert [(await ask(name))[0] for name in ("sql", "poem")] == [200, 200]
            there = [loaded(await got("/v1/models", one.url)) for one in replicas]
            assert sorted(there) == [["poems"], ["sql"]]
            assert 'what="unloaded"' not in await got("/metrics")

    asyncio.run(run())


def test_many_at_once_are_answered_and_load_once_each():
    async def run():
        async with gateway(2) as (ask, got, _replicas):
            answers = await asyncio.gather(*(ask(name, max_tokens=20) for name in
                                             ("sql", "poem") * 20))
            assert {status for status, _, _ in answers} == {200}
            metrics = await got("/metrics")
            loads = sum(float(line.split()[-1]) for line in metrics.splitlines()
                        if line.startswith("penstock:adapter_changes_total")
                        and 'what="loaded"' in line)
            assert loads == 2
            assert 'what="missing"' not in metrics

    asyncio.run(run())


def test_an_adapter_that_cannot_be_loaded_is_a_503_with_a_time():
    async def run():
        notes = []
        async with gateway(on_bug=notes.append) as (ask, got, _replicas):
            for code in ("adapter_unavailable", "no_engine"):
                status, answer, headers = await ask("gone")
                assert (status, answer["error"]["code"]) == (503, code)
                assert "could not load gone (status 404)" in answer["error"]["message"]
                assert "/no/such" not in str(answer)
                assert int(headers["Retry-After"]) >= 1
            assert (await ask("llama-3-8b"))[0] == 200
            assert len(notes) == 1
            assert "/no/such" in notes[0]
            assert 'what="failed"} 1.0' in await got("/metrics")

    asyncio.run(run())


def test_an_adapter_that_the_engine_has_lost_is_loaded_again():
    async def run():
        async with gateway() as (ask, got, replicas), aiohttp.ClientSession() as session:
            assert (await ask("sql"))[0] == 200
            async with session.post(f"{replicas[0].url}/v1/unload_lora_adapter",
                                    json={"lora_name": "sql"}) as answer:
                assert answer.status == 200
            assert (await ask("sql"))[0] == 200
            assert 'what="missing"} 1.0' in await got("/metrics")

    asyncio.run(run())


def test_an_emulated_engine_refuses_what_it_has_not_loaded():
    async def run():
        async with gateway() as (ask, _got, replicas), aiohttp.ClientSession() as session:
            url = replicas[0].url
            assert (await ask("sql", url))[0] == 404

            async def order(verb, **body):
                async with session.post(f"{url}/v1/{verb}_lora_adapter", json=body) as answer:
                    return answer.status

            body = {"lora_name": "sql", "lora_path": "hub/sql"}
            assert [await order("load", **body) for _ in range(2)] == [200, 400]
            assert (await ask("sql", url))[1]["model"] == "sql"
            assert await order("load", lora_name="x", lora_path="/no/such") == 404
            assert await order("load", lora_name="x") == 400
            assert [await order("unload", lora_name="sql") for _ in range(2)] == [200, 404]

    asyncio.run(run())


def test_a_tenant_s_models_and_prices_are_those_of_adapters_too():
    values = fleet(["http://127.0.0.1:1"], gateway={"tenants": [
        {"name": "shop", "models": ["llama-3-8b", "sql"]}, {"name": "base", "models":
                                                            ["llama-3-8b"]}, {"name": "all"}]})
    offer = offer_of(values)
    shop, base, everything = values.gateway.tenants
    assert offer.names(shop) == ["llama-3-8b", "sql"]
    assert offer.names(base) == ["llama-3-8b"]
    assert offer.names(everything) == ["llama-3-8b", "sql", "poem", "gone"]
    body = b'{"model": "%b", "prompt": "x"}'
    ask = read_ask(body % b"sql", {}, offer, shop)
    assert (ask.models, ask.name, ask.adapter) == (
        ("llama-3-8b",), "sql", Adapter("sql", "hub/sql", rank=8))
    assert read_ask(body % b"poem", {}, offer).service_class.name == "batch"
    with pytest.raises(ServiceError) as error:
        read_ask(body % b"poem", {}, offer, shop)
    assert (error.value.status, error.value.code) == (403, "model_not_allowed")
    assert read_ask(body % b"auto", {}, offer).adapter is None
    prices = gateway_config(values, Limits()).prices
    assert prices["sql"] == prices["llama-3-8b"]
