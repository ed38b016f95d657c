"""A tenant sends the private prompt of another, and learns nothing of it."""

import asyncio
import secrets
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp
from aiohttp import web

from penstock.fleet.load import parse_fleet
from penstock.fleet.replica_factory import dispatch_of
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import Access, running
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from support.fake_http_engines import http_engine
from support.small_fleet import FLEET

PRIVATE = "our secret merger with the other company " * 160
DECOY = "another text of quite the very same size " * 160
ANSWER = {"id": "x", "choices": [{"index": 0, "text": "ok", "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 1640, "completion_tokens": 1}}
TENANTS = [{"name": "victim"}, {"name": "thief"}]
ROUTERS = ["prefix_aware", "joint", "predictive", "least_loaded", "least_added_time", "llm-d"]
assert len(PRIVATE) == len(DECOY)


class World:
    """A gateway before two engines that look like vLLM, and what the engines were sent."""

    def __init__(self, sessions, sent):
        self.sessions = sessions
        self.sent = sent

    async def ask(self, who, prompt, **more):
        async with self.sessions[who].post("/v1/completions", json={
                "prompt": prompt, "max_tokens": 5, **more}) as answer:
            decision_id = answer.headers["X-Penstock-Decision"]
            body = await answer.json()
            async with self.sessions[who].get(f"/v1/penstock/decisions/{decision_id}") as found:
                decision = await found.json()
            async with self.sessions["admin"].get(f"/v1/penstock/decisions/{decision_id}") as found:
                whole = await found.json()
            return {"status": answer.status, "headers": dict(answer.headers), "body": body,
                    "decision": decision}, whole


def through(tmp_path, router, work, metrics="vllm:num_requests_running 0\n", **gateway):
    sent = []

    async def answer(request: web.Request) -> web.StreamResponse:
        sent.append(await request.json())
        return web.json_response(ANSWER)

    async def run():
        ledger = f"sqlite:///{tmp_path}/{secrets.token_hex(4)}.db"
        store, texts = open_store(ledger), {}
        for who, admin in (("victim", False), ("thief", False), ("", True)):
            texts[who or "admin"], key = new_key(who, 0.0, secrets.token_bytes, admin=admin)
            store.add_key(key)
        store.close()
        async with AsyncExitStack() as stack:
            urls = [await stack.enter_async_context(http_engine(answer, "llama-3-8b", metrics))
                    for _ in range(2)]
            fleet = parse_fleet(FLEET, overrides={
                "replicas": [{"count": 2, "endpoints": urls}], "policies": {"route": router},
                "gateway": {"tenants": TENANTS, **gateway}})
            url, _ = await stack.enter_async_context(running(
                fleet, dispatch_of(fleet, lambda n: 0), "127.0.0.1", 0, limits=Limits(),
                access=Access(ledger)))
            sessions = {who: await stack.enter_async_context(aiohttp.ClientSession(
                url, headers={"Authorization": f"Bearer {text}"})) for who, text in texts.items()}
            return await work(World(sessions, sent))

    return asyncio.run(asyncio.wait_for(run(), 60))


def without_moments(seen):
    """What the thief sees, but for ids and times of its own requests."""
    headers = {name: value for name, value in seen["headers"].items()
               if name not in ("Date", "X-Penstock-Decision")}
    decision = dict(seen["decision"])
    for name in ("decision_id", "at_s"):
        del decision[name]
    decision["attempts"] = [{**one, "at_s": 0} for one in decision["attempts"]]
    decision["outcome"] = {**decision["outcome"], "e2e_s": 0, "ttft_s": 0}
    return {**seen, "headers": headers, "decision": decision}


@pytest.mark.parametrize("router", ROUTERS)
def test_a_thief_sees_the_same_whether_or_not_the_victim_sent_the_prompt(router, tmp_path) -> None:
    async def after(world, prompt):
        for _ in range(3):
            await world.ask("victim", prompt)
        seen = [await world.ask("thief", PRIVATE) for _ in range(2)]
        return [without_moments(one) for one, _ in seen]

    sent_it = through(tmp_path, router, lambda world: after(world, PRIVATE))
    sent_another = through(tmp_path, router, lambda world: after(world, DECOY))
    assert sent_it == sent_another
    assert sent_it[0]["status"] == 200


def test_the_index_of_prefixes_is_by_tenant(tmp_path) -> None:
    async def work(world):
        return [(await world.ask(who, PRIVATE))[1]["terms"]["cached_tokens"]
                for who in ("victim", "thief", "victim", "thief")]

    assert through(tmp_path, "prefix_aware", work) == [0, 0, 1536, 1536]


@pytest.mark.parametrize("shared", [True, [["victim", "thief"]]])
def test_tenants_may_share_knowingly(shared, tmp_path) -> None:
    async def work(world):
        return [(await world.ask(who, PRIVATE))[1]["terms"]["cached_tokens"]
                for who in ("victim", "thief")]

    assert through(tmp_path, "prefix_aware", work, shared_prefixes=shared) == [0, 1536]


@pytest.mark.parametrize("router", ROUTERS)
def test_a_tenants_decision_has_no_term_of_caches_or_load(router, tmp_path) -> None:
    async def work(world):
        await world.ask("victim", PRIVATE)
        return (await world.ask("thief", PRIVATE))[0]["decision"]

    decision = through(tmp_path, router, work)
    assert decision["terms"] == {}
    assert {name for one in decision["candidates"] for name in one} == {"replica", "model"}
    assert {name for one in decision["prospects"] for name in one} <= {"replica", "quality",
                                                                       "price"}
    assert not {"cached_tokens", "load", "utility", "queue", "num_running", "chance", "others_s",
                "kv_used_tokens", "rejected_by_policy"} & set(str(decision).split("'"))


class TestSalts:
    """What the engine's own prefix cache is told."""

    def sent(self, tmp_path, *asks, **settings):
        async def work(world):
            for who, more in asks:
                await world.ask(who, PRIVATE, **more)
            return [one.get("cache_salt") for one in world.sent]

        return through(tmp_path, "round_robin", work, **settings)

    def test_each_tenant_has_its_own(self, tmp_path) -> None:
        first, again, other = self.sent(tmp_path, ("victim", {}), ("victim", {}), ("thief", {}))
        assert first == again != other
        assert len(first) == len(other) == 43

    def test_nobody_else_can_compute_it(self, tmp_path) -> None:
        """Another gateway, with the same tenants, has others."""
        assert self.sent(tmp_path, ("victim", {})) != self.sent(tmp_path, ("victim", {}))

    def test_a_salt_of_the_clients_own_divides_further_and_opens_nothing(self, tmp_path) -> None:
        own = {"cache_salt": "monday"}
        found = self.sent(tmp_path, ("victim", own), ("victim", own), ("victim", {}),
                          ("thief", own))
        assert found[0] == found[1]
        assert len(set(found)) == 3
        # A thief who learned the salt that the engine was sent gets nothing by sending that one.
        stolen = self.sent(tmp_path, ("thief", {"cache_salt": found[2]}))
        assert stolen[0] not in found

    def test_a_client_may_set_it_where_all_share(self, tmp_path) -> None:
        assert self.sent(tmp_path, ("victim", {}), ("thief", {"cache_salt": "ours"}),
                         shared_prefixes=True) == [None, "ours"]

    def test_groups_share_one(self, tmp_path) -> None:
        one, other = self.sent(tmp_path, ("victim", {}), ("thief", {}),
                               shared_prefixes=[["thief", "victim"]])
        assert one == other is not None

    def test_engines_that_know_no_salt_get_the_request_as_it_came(self, tmp_path) -> None:
        assert self.sent(tmp_path, ("victim", {}), metrics=None) == [None]
