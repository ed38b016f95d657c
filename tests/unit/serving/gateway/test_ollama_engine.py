"""A gateway before a server with Ollama's behaviour, as OpenAI's clients see it."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("openai", reason="the official client is not installed")

import aiohttp
import openai

from penstock.engines.client.state import UNSEEN_LOAD_S
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support.fake_ollama import Ollama, chat_lines, generate_lines
from support.small_fleet import FLEET


@asynccontextmanager
async def gateway(*servers):
    fleet = parse_fleet(FLEET, overrides={"replicas": [
        {"count": len(servers), "endpoints": [one.url for one in servers], "engine": "ollama",
         "served_as": "llama3.1:8b"}]})
    async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits()) as found:
        yield found


def through(work, *servers):
    """What ``work`` makes of a client of a gateway before these servers, and of its engines."""
    async def run():
        async with AsyncExitStack() as stack:
            for server in servers:
                await stack.enter_async_context(server.running())
            url, engines = await stack.enter_async_context(gateway(*servers))
            client = await stack.enter_async_context(openai.AsyncOpenAI(
                base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60))
            return await work(client, engines)

    return asyncio.run(run())


CHAT = {"model": "llama-3-8b", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_streamed_chat(cut) -> None:
    server = Ollama(cut=cut)

    async def work(client, engines):
        parts = [part async for part in await client.chat.completions.create(
            **CHAT, stream=True, max_tokens=5, stream_options={"include_usage": True})]
        return parts, engines[0]

    parts, engine = through(work, server)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) \
        == "Rivers"
    assert parts[-1].usage.completion_tokens == 3
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] == "stop"
    path, body = server.asked[0]
    assert (path, body["model"], body["options"]) == ("/api/chat", "llama3.1:8b",
                                                      {"num_predict": 5})
    assert "vllm_xargs" not in body
    assert engine.num_served == 1


def test_a_chat_and_a_completion_in_one_piece() -> None:
    async def work(client, engines):
        chat = await client.chat.completions.create(**CHAT)
        text = await client.completions.create(model="llama-3-8b", prompt="x")
        vectors = await client.embeddings.create(model="llama-3-8b", input="x",
                                                 encoding_format="float")
        return chat, text, vectors

    server = Ollama()
    chat, text, vectors = through(work, server)
    assert chat.choices[0].message.content == "Rivers"
    assert chat.usage.total_tokens == 14
    assert text.object == "text_completion"
    assert vectors.data[0].embedding == [0.25, 0.5]
    assert [path for path, _ in server.asked] == ["/api/chat", "/api/generate", "/api/embed"]


def test_a_full_queue_sends_requests_elsewhere_and_is_no_failure() -> None:
    full, free = Ollama(status=503), Ollama()

    async def work(client, engines):
        answers = [await client.chat.completions.create(**CHAT) for _ in range(6)]
        return answers, engines

    answers, engines = through(work, full, free)
    assert {answer.choices[0].message.content for answer in answers} == {"Rivers"}
    assert full.asked
    assert engines[0].num_failed == 0
    assert engines[1].num_served == 6


def test_where_all_are_full_the_client_is_told_when_to_come_back() -> None:
    async def work(client, engines):
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**CHAT)
        return caught.value.response

    response = through(work, Ollama(status=503))
    assert response.headers["Retry-After"] == "1"
    assert response.json()["error"]["code"] == "engines_busy"


def test_an_error_before_the_first_token_goes_elsewhere_a_later_one_is_told() -> None:
    bad, good = Ollama(lines=[{"error": "no memory"}]), Ollama()
    breaking = Ollama(lines=[*chat_lines("Ri")[:-1], {"error": "no memory"}])

    async def work(client, engines):
        return [part async for part in await client.chat.completions.create(**CHAT, stream=True)]

    parts = through(work, bad, good)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "Rivers"
    with pytest.raises(openai.APIError, match="no memory"):
        through(work, breaking)


def test_what_ollama_cannot_do_is_refused_with_the_reason() -> None:
    async def work(client, engines):
        with pytest.raises(openai.BadRequestError, match="Ollama has no n"):
            await client.chat.completions.create(**CHAT, n=2)
        return engines[0].num_failed

    assert through(work, Ollama()) == 0


def test_a_cold_model_is_told_to_the_router() -> None:
    server = Ollama(loaded=(), lines=generate_lines("a", load_duration=3_000_000_000))

    async def work(client, engines):
        unseen = engines[0].snapshot(0.0).load_s
        await client.completions.create(model="llama-3-8b", prompt="x")
        seen = engines[0].snapshot(0.0).load_s
        server.loaded = ("llama3.1:8b",)
        while engines[0].snapshot(0.0).load_s:
            await asyncio.sleep(0.01)
        return unseen, seen

    assert through(work, server) == (UNSEEN_LOAD_S, pytest.approx(3.0))


def test_a_client_that_leaves_ends_the_call() -> None:
    server = Ollama(cut=120)

    async def work(client, engines):
        server.hold = asyncio.Event()
        async with aiohttp.ClientSession() as session, session.post(
                f"{client.base_url}chat/completions", json={**CHAT, "stream": True}) as answer:
            await answer.content.readany()
            assert len(engines[0].in_flight) == 1
        while engines[0].in_flight:
            await asyncio.sleep(0.001)
        return engines[0].num_failed

    assert through(work, server) == 0
