"""A gateway before emulated engines and before engines that misbehave, as clients see it."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("openai", reason="the official client is not installed")

import aiohttp
import openai
from aiohttp import web

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import running
from support.small_fleet import FLEET

FAST = 2000.0
LIMITS = Limits()


@asynccontextmanager
async def gateway(urls, limits=LIMITS, kind="auto", **overrides):
    """(URL, engines) of a gateway before engines at these URLs."""
    fleet = parse_fleet(FLEET, overrides={
        "replicas": [{"count": len(urls), "endpoints": list(urls), "engine": kind}], **overrides})
    async with running(fleet, LeastLoaded(), "127.0.0.1", 0, limits=limits) as (url, found):
        yield url, found


@asynccontextmanager
async def cluster(count=2):
    fleet = parse_fleet(FLEET, overrides={"replicas": [{"count": count}]})
    async with emulated_cluster(fleet, EmulatorOptions(speed=FAST)) as found:
        yield found


@asynccontextmanager
async def engine(handler, health=200):
    """The URL of a server that answers completions as ``handler`` does."""
    async def well(_):
        return web.Response(status=health)

    app = web.Application()
    app.router.add_get("/health", well)
    app.router.add_post("/v1/completions", handler)
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def through(work, count=2, limits=LIMITS):
    """What ``work`` makes of a gateway before emulated engines and of the cluster."""
    async def run():
        async with cluster(count) as found, gateway(
                [one.url for one in found.replicas], limits) as (url, _):
            return await work(url, found)

    return asyncio.run(run())


def client(url):
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


ASK = {"model": "llama-3-8b", "prompt": "Tell me of rivers.", "max_tokens": 12,
       "extra_body": {"ignore_eos": True}}


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_client_gets_what_the_engine_says(stream) -> None:
    async def work(url, found):
        async def text(base):
            async with client(base) as ask:
                answer = await ask.completions.create(**ASK, stream=stream)
                if not stream:
                    return answer.choices[0].text, answer.usage.completion_tokens
                parts = [part async for part in answer]
                assert all(part.choices for part in parts), "usage that nobody asked for"
                return "".join(part.choices[0].text for part in parts), 12

        return await text(url), await text(found.replicas[0].url)

    mine, engines = through(work)
    assert mine == engines
    assert mine[1] == 12


def test_usage_is_passed_on_to_those_who_ask() -> None:
    async def work(url, found):
        async with client(url) as ask:
            stream = await ask.chat.completions.create(
                model="llama-3-8b", messages=[{"role": "user", "content": "Hello"}], stream=True,
                max_tokens=5, extra_body={"ignore_eos": True},
                stream_options={"include_usage": True})
            return [part.usage async for part in stream]

    usages = [usage for usage in through(work) if usage is not None]
    assert [usage.completion_tokens for usage in usages] == [5]


def test_requests_spread_over_equal_engines() -> None:
    async def work(url, found):
        async with client(url) as ask:
            await asyncio.gather(*(ask.completions.create(**{**ASK, "max_tokens": 200})
                                   for _ in range(12)))
        async with aiohttp.ClientSession(url) as session, session.get(
                "/v1/penstock/status") as answer:
            return [one["num_served"] for one in (await answer.json())["engines"]]

    served = through(work)
    assert sum(served) == 12
    assert min(served) >= 4


def test_a_decision_says_why_and_what_came_of_it() -> None:
    async def work(url, found):
        async with aiohttp.ClientSession(url) as session:
            async with session.post("/v1/completions", headers={"X-Penstock-Class": "batch"},
                                    json={"prompt": [1] * 40, "max_tokens": 7, "ignore_eos": True,
                                          "model": "llama-3-8b"}) as answer:
                assert answer.status == 200
                name = answer.headers[DECISION_HEADER]
            async with session.get(f"/v1/penstock/decisions/{name}") as answer:
                return await answer.json()

    found = through(work)
    assert (found["service_class"], found["prompt_tokens"]) == ("batch", 40)
    assert len(found["candidates"]) == 2
    assert found["terms"].keys() == {"load"}
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["answered 200"]
    assert found["outcome"]["outcome"] == "finished"
    assert (found["outcome"]["prompt_tokens"], found["outcome"]["output_tokens"]) == (40, 7)


@pytest.mark.parametrize(("body", "status", "said"), [
    (b'{"x":' + b"[" * 400 + b"]" * 400 + b"}", 400, "nested too deeply"),
    (b'{"x":' + b"[" * 4000, 400, "not JSON"),
    (b"{", 400, "not JSON"), (b"[]", 400, "not a JSON object"),
    (b'{"model": "llama-3-8c"}', 404, "did you mean 'llama-3-8b'?"),
    (b'{"model": 3}', 400, "model: expected a name"),
    (b'{"max_tokens": 0}', 400, "max_tokens: expected a whole number"),
    (b'{"max_tokens": true}', 400, "max_tokens"), (b'{"stream": "yes"}', 400, "true or false")])
def test_wrong_requests_get_one_clear_error(body, status, said) -> None:
    async def work(url, found):
        async with aiohttp.ClientSession(url) as session, session.post(
                "/v1/completions", data=body,
                headers={"Content-Type": "application/json"}) as answer:
            return answer.status, (await answer.json())["error"]

    found, error = through(work, count=1)
    assert found == status
    assert said in error["message"]


def test_an_engine_that_fails_before_the_first_byte_is_replaced() -> None:
    async def broken(request):
        return web.Response(status=500)

    async def run():
        async with cluster(1) as found, engine(broken) as bad, gateway(
                [bad, found.replicas[0].url]) as (url, engines), client(url) as ask:
            answers = [await ask.completions.create(**ASK) for _ in range(6)]
            return answers, engines

    answers, engines = asyncio.run(run())
    assert all(answer.usage.completion_tokens == 12 for answer in answers)
    assert engines[0].num_failed == 3, "then it was left alone for a while"
    assert engines[1].num_served == 6


def test_when_all_engines_fail_the_client_is_told_which() -> None:
    async def broken(request):
        return web.Response(status=503)

    async def run():
        async with engine(broken) as one, engine(broken) as two, gateway([one, two]) as (
                url, _), aiohttp.ClientSession(url) as session, session.post(
                    "/v1/completions", json={"prompt": "x"}) as answer:
            return answer.status, (await answer.json())["error"], (one, two)

    status, error, urls = asyncio.run(run())
    assert status == 502
    assert error["code"] == "engines_failed"
    assert "replica 0 answered 503; replica 1 answered 503" in error["message"]
    assert not any(url in error["message"] for url in urls)


def test_a_stream_that_breaks_off_is_not_taken_for_an_end() -> None:
    async def half(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"text":"a"}]}\n\n')
        await asyncio.sleep(0.01)
        request.transport.abort()
        return response

    async def run():
        async with engine(half) as one, gateway([one]) as (url, engines), aiohttp.ClientSession(
                url) as session, session.post("/v1/completions", json={
                    "prompt": "x", "stream": True}) as answer:
            return await answer.text(), engines[0]

    text, broken = asyncio.run(run())
    assert '"text":"a"' in text
    assert "the engine failed in the middle of its answer" in text
    assert "[DONE]" not in text
    assert (broken.num_served, broken.num_failed) == (0, 1)


def test_a_client_that_hangs_up_frees_the_engine() -> None:
    async def work(url, found):
        scheduler = found.replicas[0].engine.scheduler
        async with aiohttp.ClientSession(url) as session:
            ask = asyncio.create_task(session.post("/v1/completions", json={
                "prompt": [1] * 1000, "max_tokens": 7000, "ignore_eos": True, "stream": True}))
            while not scheduler.kv_used_tokens:
                await asyncio.sleep(0.001)
            ask.cancel()
        while scheduler.kv_used_tokens:
            await asyncio.sleep(0.001)
        return True

    assert asyncio.run(asyncio.wait_for(_slowly(work), 60))


async def _slowly(work):
    fleet = parse_fleet(FLEET)
    async with emulated_cluster(fleet, EmulatorOptions(speed=1.0)) as found, gateway(
            [found.replicas[0].url]) as (url, _):
        return await work(url, found)


def test_more_than_the_gateway_takes_is_told_to_come_back() -> None:
    gate = asyncio.Event()

    async def slow(request):
        await gate.wait()
        return web.json_response({"choices": [{"text": "late"}], "usage": {}})

    async def run():
        async with engine(slow) as one, gateway([one], Limits(max_in_flight=2)) as (
                url, engines), aiohttp.ClientSession(url) as session:
            held = [asyncio.create_task(session.post("/v1/completions", json={"prompt": "x"}))
                    for _ in range(2)]
            while len(engines[0].in_flight) < 2:
                await asyncio.sleep(0.001)
            async with session.post("/v1/completions", json={"prompt": "x"}) as answer:
                refused = answer.status, answer.headers.get("Retry-After")
            gate.set()
            return refused, [(await one).status for one in held]

    refused, held = asyncio.run(run())
    assert refused == (429, "1")
    assert held == [200, 200]


def test_an_engine_that_is_not_well_gets_nothing() -> None:
    async def never(request):
        raise AssertionError("asked")

    async def run():
        async with engine(never, health=503) as one, gateway([one]) as (
                url, _), aiohttp.ClientSession(url) as session:
            async with session.post("/v1/completions", json={"prompt": "x"}) as answer:
                first = answer.status, (await answer.json())["error"]["message"]
            async with session.get("/health") as answer:
                return first, answer.status

    (status, message), health = asyncio.run(run())
    assert (status, health) == (503, 503)
    assert "was never seen" in message


@pytest.mark.parametrize(("kind", "told"), [
    ("auto", False), ("openai", False), ("llamacpp", False), ("sglang", False), ("vllm", True)])
def test_only_engines_that_know_classes_are_told_of_them(kind, told) -> None:
    bodies = []

    async def note(request):
        bodies.append(await request.json())
        return web.json_response({"choices": [{"text": "x"}], "usage": {}})

    async def run():
        async with engine(note) as one, gateway([one], kind=kind) as (
                url, _), aiohttp.ClientSession(url) as session, session.post(
                    "/v1/completions", json={"prompt": "x", "mine": [1]}) as answer:
            assert answer.status == 200

    asyncio.run(run())
    extra = {"service_class": "chat", "ttft_s": 2, "itl_s": 0.05}
    assert bodies == [{"prompt": "x", "mine": [1], "model": "llama-3-8b",
                       **({"vllm_xargs": extra} if told else {})}]


@pytest.mark.parametrize(("kind", "header"), [
    ("auto", "X-Penstock-Session"), ("llamacpp", "X-Penstock-Session"),
    ("vllm", "X-Penstock-Session"), ("sglang", "X-SMG-Routing-Key")])
def test_engines_are_told_the_session_and_not_its_name(kind, header) -> None:
    told = []

    async def note(request):
        extra = (await request.json()).get("vllm_xargs", {})
        told.append((request.headers.get(header), extra.get("session")))
        return web.json_response({"choices": [{"text": "x"}], "usage": {}})

    async def run():
        async with engine(note) as one, gateway([one], kind=kind) as (
                url, _), aiohttp.ClientSession(url) as session:
            for name in ("mine", "mine", "other", None):
                headers = {} if name is None else {"X-Penstock-Session": name}
                async with session.post("/v1/completions", json={"prompt": "x"},
                                        headers=headers) as answer:
                    assert answer.status == 200

    asyncio.run(run())
    first, again, other, without = told
    assert first == again != other
    assert first[0]
    assert "mine" not in first[0]
    assert without == (None, None)
    assert first[1] == (first[0] if kind == "vllm" else None)


def test_an_engine_without_health_is_asked_for_its_models() -> None:
    async def well(_):
        return web.json_response({"data": []})

    async def run():
        app = web.Application()
        app.router.add_get("/v1/models", well)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            one = f"http://127.0.0.1:{runner.addresses[0][1]}"
            async with gateway([one]) as (_, engines):
                return engines[0].healthy
        finally:
            await runner.cleanup()

    assert asyncio.run(run())
