"""The loop with its sources."""

import asyncio

import aiohttp
from aiohttp import web

from penstock.published.inferno.cluster.decide import Rules
from penstock.published.inferno.cluster.opening import Settings, loop_of
from support import inferno_bundles
from support.fake_cluster import FakeCluster
from support.fake_prometheus import FakePrometheus
from support.inferno_cluster import deployment, put, server_labels, walkthrough

RATES = {"request_success": 2.0, "prompt_tokens": 256.0, "generation_tokens": 2048.0,
         "first_token_seconds_sum": 0.4, "first_token_seconds_count": 2.0,
         "output_token_seconds_sum": 0.06, "output_token_seconds_count": 2.0, "running": 5.0}


def test_a_cycle_takes_the_loads_of_prometheus_and_those_of_labels_where_it_has_none():
    prometheus, there = FakePrometheus(), FakeCluster()
    walkthrough(there)

    async def answer(request):
        value = next(value for name, value in RATES.items() if name in request.query["query"])
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"job": "premium-small"}, "value": [1.0, str(value)]}]}})

    prometheus.answer = answer

    async def work():
        async with prometheus.server() as url, aiohttp.ClientSession() as session:
            return await loop_of(there, Settings(Rules(), prometheus=url), session, print).invoke()

    found = {one["name"]: one for one in asyncio.run(work())["servers"]}
    assert {name: one["loadFrom"] for name, one in found.items()} == {
        "Premium-small": "prometheus", "Premium-large": "labels", "Free-small": "labels",
        "Free-large": "labels"}
    current = found["Premium-small"]["currentAlloc"]
    assert current["load"] == {"arrivalRate": 120.0, "throughput": 120.0, "avgInTokens": 128,
                               "avgOutTokens": 1024}
    assert (current["ttftAverage"], current["itlAverage"]) == (200.0, 30.0)


def test_a_folder_takes_the_place_of_the_config_maps(tmp_path):
    there = FakeCluster()
    put(there, deployment("a", server_labels("a")))
    settings = Settings(Rules(), folder=inferno_bundles.write(tmp_path / "data"))

    async def work():
        async with aiohttp.ClientSession() as session:
            return await loop_of(there, settings, session, print).invoke()

    assert asyncio.run(work())["servers"][0]["desiredAlloc"] is not None
