"""Pairs of emulated engines behind the gateway: one computes the prompt, another answers."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.pairing import PREFILLED, prefill_body
from penstock.serving.gateway.running import running
from support.fake_http_engines import http_engine, whole
from support.small_fleet import FLEET

SPLIT = {"transfer": {"gb_per_s": 50}}
ROLES = ("prefill", "prefill", "decode", "decode")
ASK = {"prompt": "Tell me of rivers. " * 40, "max_tokens": 12, "ignore_eos": True}


@asynccontextmanager
async def pairs(roles=ROLES, urls=None, **split):
    """(session of the gateway, cluster) of engines with these roles."""
    replicas = [{"role": role} for role in roles]
    options = {"disaggregation": {**SPLIT, **split}}
    fleet = parse_fleet(FLEET, overrides={"replicas": replicas, **options})
    async with emulated_cluster(fleet, EmulatorOptions(speed=200.0)) as cluster:
        found = urls or [one.url for one in cluster.replicas]
        live = parse_fleet(FLEET, overrides={"replicas": [
            {"role": role, "endpoints": [url], "engine": "vllm"}
            for role, url in zip(roles, found, strict=True)], **options})
        async with running(live, LeastLoaded(), "127.0.0.1", 0, limits=Limits()) as (url, _), \
                aiohttp.ClientSession(url) as session:
            yield session, cluster


async def ask(session, path="/v1/completions", **more):
    """(status, text, outcomes of the attempts with their replica) of a request."""
    body = {**ASK, **more}
    if path.startswith("/v1/chat"):
        body["messages"] = [{"role": "user", "content": body.pop("prompt")}]
    async with session.post(path, json=body) as answer:
        text, name = await answer.text(), answer.headers[DECISION_HEADER]
    async with session.get(f"/v1/penstock/decisions/{name}") as found:
        decision = await found.json()
    return answer.status, text, [(one["replica"], one["outcome"]) for one in decision["attempts"]]


def idle(cluster):
    """Every engine has its whole KV cache back."""
    return all(one.engine.scheduler.kv_used_tokens == 0 for one in cluster.replicas)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_one_engine_prefills_and_another_answers(path, stream) -> None:
    async def work():
        async with pairs() as (session, cluster):
            answers = [await ask(session, path, stream=stream) for _ in range(4)]
            whole_one = aiohttp.ClientSession(cluster.replicas[2].url)
            async with whole_one, whole_one.post("/v1/completions", json=ASK) as answer:
                alone = (await answer.json())["choices"][0]["text"]
            return answers, alone, idle(cluster)

    answers, alone, freed = asyncio.run(work())
    for status, text, attempts in answers:
        assert status == 200
        (first, prefilled), (second, answered) = attempts
        assert (prefilled, answered) == (PREFILLED, "answered 200")
        assert first in ("replica 0", "replica 1")
        assert second in ("replica 2", "replica 3")
        assert "kv_transfer_params" not in text
        if path == "/v1/completions" and not stream:
            assert alone in text
    assert freed


def test_a_short_prompt_stays_with_the_engine_that_answers() -> None:
    async def work():
        async with pairs(min_prompt_tokens=5000) as (session, _):
            return await ask(session)

    status, _, attempts = asyncio.run(work())
    assert status == 200
    assert len(attempts) == 1
    assert attempts[0][0] in ("replica 2", "replica 3")


@pytest.mark.parametrize("lost", [(0, 1), (2, 3)])
def test_a_lost_role_loses_no_request(lost) -> None:
    async def work():
        dead = "http://127.0.0.1:9"
        async with pairs() as (_, cluster):
            urls = [dead if i in lost else one.url for i, one in enumerate(cluster.replicas)]
            async with pairs(urls=urls) as (session, _):
                answers = await asyncio.gather(*(ask(session) for _ in range(8)))
            await asyncio.sleep(0.2)
            return answers, idle(cluster) or lost == (2, 3)  # a lease ends after 30 s

    answers, freed = asyncio.run(work())
    assert [status for status, _, _ in answers] == [200] * 8
    assert freed


def test_an_engine_without_a_connector_is_told_and_passed_over() -> None:
    async def work():
        plain = {"id": "x", "choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}
        async with http_engine(whole(plain), "llama-3-8b") as url, pairs() as (_, cluster):
            urls = [url, url, *(one.url for one in cluster.replicas[2:])]
            async with pairs(urls=urls) as (session, _):
                return await ask(session)

    status, _, attempts = asyncio.run(work())
    assert status == 200
    assert attempts[0] == ("replica 0", "answered without kv_transfer_params")
    assert attempts[-1][1] == "answered 200"


def test_a_prefill_that_the_deadline_ends_is_recorded_so() -> None:
    async def silent(_):
        await asyncio.sleep(60)

    async def work():
        async with http_engine(silent, "llama-3-8b") as url, pairs() as (_, cluster):
            urls = [url, url, *(one.url for one in cluster.replicas[2:])]
            async with pairs(urls=urls) as (session, _):
                return await ask(session, penstock={"deadline_s": 0.3})

    status, _, attempts = asyncio.run(work())
    assert status == 429
    assert attempts == [("replica 0",
                         "no token of an answer came within 0.3 s, its deadline")]


def test_the_first_engine_is_asked_for_one_token_in_one_piece() -> None:
    body = prefill_body({"prompt": "a", "max_completion_tokens": 9, "stream": True,
                         "stream_options": {"include_usage": True}})
    assert body.pop("kv_transfer_params")["do_remote_decode"] is True
    assert body == {"prompt": "a", "max_completion_tokens": 1, "stream": False}
    assert prefill_body({"prompt": "a"})["max_tokens"] == 1
