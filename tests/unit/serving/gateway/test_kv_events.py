"""A gateway whose routes follow what emulated engines report of their caches."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("zmq", reason="the extra 'kv-events' is not installed")
pytest.importorskip("msgspec", reason="the extra 'kv-events' is not installed")

import aiohttp

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import dispatch_of
from penstock.policy.route.live_index import LiveIndex
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support.small_fleet import FLEET

PROMPT = "the gate holds the water back " * 60
CACHING = FLEET.replace("route: least_loaded}", "route: prefix_aware}\nengine: {prefix_caching: "
                        "true, kv_tokens: 4096}\n")


class Noting(LiveIndex):
    """An index that remembers the first block of all."""

    first = 0

    def stored(self, replica_id, hashes, tier=0):
        found = list(hashes)
        self.first = self.first or found[0]
        super().stored(replica_id, found, tier)


@asynccontextmanager
async def gateway(route="prefix_aware", **overrides):
    """Yield an HTTP client's post, the engines' URLs, and the index."""
    fleet = parse_fleet(CACHING, overrides={"replicas": [{"count": 2}]})
    options = EmulatorOptions(speed=1000.0, kv_events_port=0)
    async with emulated_cluster(fleet, options) as cluster, aiohttp.ClientSession() as session:
        urls = [one.url for one in cluster.replicas]
        served = parse_fleet(CACHING, overrides={
            "policies.route": route, "replicas": [{
                "count": 2, "endpoints": urls,
                "kv_events": [one.kv_sockets.events for one in cluster.replicas],
                "kv_replay": [one.kv_sockets.replay for one in cluster.replicas]}], **overrides})
        live = Noting()
        router = dispatch_of(served, lambda n: 0, live=live)
        async with running(served, router, "127.0.0.1", 0, limits=Limits(), live=live) as (url, _):
            await until(lambda: live.is_whole(0) and live.is_whole(1))

            async def ask(base=url, path="/v1/completions", **body):
                async with session.post(f"{base}{path}", json={"max_tokens": 2, **body}) as answer:
                    assert answer.status == 200, await answer.text()
                    return answer.headers.get("X-Penstock-Decision")

            async def got(path):
                async with session.get(f"{url}{path}") as answer:
                    return await (answer.text() if path == "/metrics" else answer.json())

            yield ask, got, urls, live


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def served_by(got, decision):
    (attempt,) = (await got(f"/v1/penstock/decisions/{decision}"))["attempts"]
    return attempt["url"]


@pytest.mark.parametrize("route", ["prefix_aware", "joint"])
def test_a_prompt_that_another_client_sent_is_found(route):
    async def run():
        async with gateway(route) as (ask, got, urls, live):
            await ask(urls[1], prompt=PROMPT)
            await until(lambda: live.num_blocks(1))
            assert await served_by(got, await ask(prompt=PROMPT)) == urls[1]
            metrics = await got("/metrics")
            assert 'penstock:kv_prompts_total{tokens="tokenized"} 1.0' in metrics
            assert f'penstock:kv_index_whole{{url="{urls[1]}"}} 1.0' in metrics

    asyncio.run(run())


def test_token_ids_and_chats_are_found_too():
    async def run():
        async with gateway() as (ask, got, urls, live):
            await ask(urls[1], prompt=list(range(500)))
            await until(lambda: live.num_blocks(1))
            assert await served_by(got, await ask(prompt=list(range(480)))) == urls[1]
            messages = [{"role": "user", "content": PROMPT[7:]}]
            before = live.num_blocks(0)
            await ask(urls[0], "/v1/chat/completions", messages=messages)
            await until(lambda: live.num_blocks(0) > before)
            assert await served_by(got, await ask(
                path="/v1/chat/completions", messages=messages)) == urls[0]
            assert 'tokens="given"} 1.0' in await got("/metrics")

    asyncio.run(run())


def test_evicted_blocks_attract_nothing():
    async def run():
        async with gateway() as (ask, got, urls, live):
            await ask(urls[1], prompt=PROMPT)
            await until(lambda: live.num_blocks(1))
            for number in range(12):
                await ask(urls[1], prompt=f"{number} {PROMPT}")
            await until(lambda: not live.holders(live.first))
            document = await got("/v1/penstock/status")
            (one,) = [one for one in document["kv_events"] if one["url"] == urls[1]]
            assert one["num_blocks"] <= 4096 // 16
            assert await served_by(got, await ask(prompt=PROMPT)) == urls[0], "both hold nothing"

    asyncio.run(run())

