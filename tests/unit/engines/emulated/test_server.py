"""An emulated engine over HTTP, as OpenAI's own client and plain HTTP clients see it."""

import asyncio
import json
from contextlib import asynccontextmanager
from io import BytesIO

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("openai", reason="the official client is not installed")

import aiohttp
import openai
from prometheus_client.parser import text_string_to_metric_families

from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from support.small_fleet import FLEET

FAST = 2000.0  # nobody waits for a GPU that is not there
PROMPT = "Tell me of rivers."


@asynccontextmanager
async def replica(speed=FAST, fleet=FLEET, **overrides):
    options = EmulatorOptions(speed=speed)
    async with emulated_cluster(parse_fleet(fleet, overrides=overrides), options) as cluster:
        yield cluster.replicas[0]


def asking(work, speed=FAST, **overrides):
    """What ``work`` makes of an official client and a replica."""
    async def run():
        async with replica(speed, **overrides) as one, openai.AsyncOpenAI(
                base_url=f"{one.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            return await work(client, one)

    return asyncio.run(run())


def http(work, speed=FAST, **overrides):
    """What ``work`` makes of a plain HTTP client and a replica."""
    async def run():
        async with replica(speed, **overrides) as one, aiohttp.ClientSession(one.url) as session:
            return await work(session, one)

    return asyncio.run(run())


async def post(session, path, **body):
    async with session.post(path, json=body) as response:
        return response.status, await response.json()


async def samples(session) -> dict[tuple[str, str], float]:
    """Every sample of /metrics by its name and its label that is not the engine's."""
    async with session.get("/metrics") as response:
        assert response.status == 200
        text = await response.text()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels["model_name"] == "llama-3-8b"
            assert sample.labels["engine"] == "0"
            other = sample.labels.get("finished_reason") or sample.labels.get("le") or ""
            found[sample.name, other] = sample.value
    return found


async def until(condition) -> None:
    """Wait for what must come; the test's own time limit ends it if it does not."""
    while not condition():
        await asyncio.sleep(0.005)


# -- the official client ------------------------------------------------------------------------

def test_a_completion() -> None:
    async def work(client, one):
        return await client.completions.create(model="llama-3-8b", prompt=PROMPT, max_tokens=8,
                                               extra_body={"ignore_eos": True})

    answer = asking(work)
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].text.split()) == 8
    assert answer.usage.model_dump(include={"prompt_tokens", "completion_tokens"}) == {
        "prompt_tokens": 5, "completion_tokens": 8}
    assert (answer.object, answer.model) == ("text_completion", "llama-3-8b")


def test_a_streamed_completion_is_the_same_text() -> None:
    async def work(client, one):
        ask = {"model": "llama-3-8b", "prompt": PROMPT, "max_tokens": 30}
        whole = await client.completions.create(**ask)
        stream = await client.completions.create(
            **ask, stream=True, stream_options={"include_usage": True})
        return whole, [chunk async for chunk in stream]

    whole, (*chunks, last) = asking(work)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) == whole.usage.completion_tokens == 30
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 29 + ["length"]
    assert all(chunk.usage is None for chunk in chunks)
    assert last.choices == []
    assert last.usage == whole.usage


def test_a_chat_ends_by_itself() -> None:
    async def work(client, one):
        messages = [{"role": "user", "content": PROMPT}]
        whole = await client.chat.completions.create(model="llama-3-8b", messages=messages)
        stream = await client.chat.completions.create(model="llama-3-8b", messages=messages,
                                                      stream=True)
        return whole, [chunk async for chunk in stream]

    whole, chunks = asking(work)
    assert whole.usage.completion_tokens == 40  # as the fleet's traffic has it
    assert whole.choices[0].finish_reason == "stop"
    assert whole.choices[0].message.role == "assistant"
    first, *tokens = [chunk.choices[0] for chunk in chunks]
    assert (first.delta.role, first.delta.content) == ("assistant", "")
    assert "".join(one.delta.content for one in tokens) == whole.choices[0].message.content
    assert [one.finish_reason for one in tokens] == [None] * 39 + ["stop"]


def test_equal_prompts_have_equal_answers_and_others_do_not() -> None:
    async def work(client, one):
        prompts = [PROMPT, "Another prompt.", PROMPT]
        answers = await asyncio.gather(*(client.completions.create(
            model="llama-3-8b", prompt=prompt, max_tokens=12) for prompt in prompts))
        return [answer.choices[0].text for answer in answers]

    one, other, again = asking(work)
    assert one == again != other


def test_many_streams_at_once() -> None:
    async def work(client, one):
        async def stream(number):
            chunks = await client.completions.create(
                model="llama-3-8b", prompt=[number] * (10 * number + 1), stream=True,
                max_tokens=number + 1, extra_body={"ignore_eos": True})
            return [chunk.choices[0].finish_reason async for chunk in chunks]

        return await asyncio.gather(*map(stream, range(32)))

    assert asking(work) == [[None] * number + ["length"] for number in range(32)]


def test_the_official_client_knows_the_errors() -> None:
    async def work(client, one):
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            await client.completions.create(model="gpt", prompt=PROMPT)
        with pytest.raises(openai.BadRequestError, match="n must be 1") as caught:
            await client.completions.create(model="llama-3-8b", prompt=PROMPT, n=2)
        assert (caught.value.param, caught.value.code) == ("n", "400")
        return [model.id async for model in client.models.list()]

    assert asking(work) == ["llama-3-8b"]


# -- frames -------------------------------------------------------------------------------------

def frames(text: str) -> list:
    """Documents of a stream, its end mark checked."""
    *parts, mark, rest = text.split("\n\n")
    assert (mark, rest) == ("data: [DONE]", "")
    assert all(part.startswith("data: {") and "\n" not in part for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


@pytest.mark.parametrize(("path", "body", "kind", "prefix"), [
    ("/v1/completions", {"prompt": PROMPT}, "text_completion", "cmpl-"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]},
     "chat.completion.chunk", "chatcmpl-"),
])
def test_frames_are_well_formed(path, body, kind, prefix) -> None:
    async def work(session, one):
        more = {"stream": True, "max_tokens": 5, "stream_options": {
            "include_usage": True, "continuous_usage_stats": True}}
        async with session.post(path, json=body | more,
                                headers={"X-Request-Id": "mine"}) as response:
            return response.status, response.headers["Content-Type"], await response.text()

    status, content_type, text = http(work)
    assert (status, content_type) == (200, "text/event-stream; charset=utf-8")
    documents = frames(text)
    assert {document["object"] for document in documents} == {kind}
    assert {document["id"] for document in documents} == {f"{prefix}mine"}
    used = [document["usage"]["completion_tokens"] for document in documents]
    assert used == ([0] if prefix == "chatcmpl-" else []) + [1, 2, 3, 4, 5, 5]


# -- errors -------------------------------------------------------------------------------------

@pytest.mark.parametrize(("method", "path", "body", "status", "kind", "message"), [
    ("POST", "/v1/completions", "{", 400, "BadRequestError", "the body is not JSON"),
    ("POST", "/v1/completions", '{"prompt": "x", "max_tokens": 9000}', 400, "BadRequestError",
     "exceed the context of 8,192"),
    ("POST", "/v1/completions", json.dumps({"prompt": "x" * 40_000}), 400, "BadRequestError",
     "the prompt has 10,000 tokens"),
    ("POST", "/v1/completions", '{"prompt": "x", "vllm_xargs": {"service_class": "chatt"}}', 400,
     "BadRequestError", "no service class 'chatt'; did you mean 'chat'?"),
    ("POST", "/v1/completions", '{"prompt": "x", "model": "y"}', 404, "NotFoundError",
     "no model 'y'"),
    ("POST", "/v1/embeddings", "{}", 404, "NotFoundError", "Not Found"),
    ("GET", "/v1/completions", None, 405, "MethodNotAllowedError", "Method Not Allowed"),
    ("POST", "/v1/completions", "x" * (17 * 2**20), 413, "RequestEntityTooLargeError",
     "body: larger than"),
])
def test_errors_have_openai_shape(method, path, body, status, kind, message) -> None:
    async def work(session, one):
        data = None if body is None else BytesIO(body.encode())
        async with session.request(method, path, data=data) as response:
            return response.status, await response.json()

    found, document = http(work)
    assert found == status
    assert set(document) == {"error"}
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == (kind, status)
    assert message in error["message"]


def test_a_context_is_no_longer_than_the_kv_cache() -> None:
    async def work(session, one):
        async with session.get("/v1/models") as response:
            card = (await response.json())["data"][0]
        answers = [await post(session, "/v1/completions", prompt=[1] * prompt, max_tokens=1)
                   for prompt in (card["max_model_len"] - 1, card["max_model_len"])]
        return card["max_model_len"], [status for status, _ in answers]

    assert http(work, **{"engine.kv_tokens": 1600}) == (1600 - 16, [200, 400])


def test_a_bug_is_told_and_not_shown() -> None:
    async def run():
        bugs = []
        async with emulated_cluster(parse_fleet(FLEET), EmulatorOptions(), bugs.append) as cluster:
            one = cluster.replicas[0]
            one.engine.submit = None
            async with aiohttp.ClientSession(one.url) as session:
                return await post(session, "/v1/completions", prompt=PROMPT), bugs

    (status, document), bugs = asyncio.run(run())
    assert status == 500
    assert document["error"]["message"] == "this is a bug in Penstock (TypeError)"
    assert "Traceback" in bugs[0]


# -- classes ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("body", "name"), [
    ({}, "chat"), ({"vllm_xargs": {"service_class": "batch"}}, "batch"), ({"priority": 3}, "batch"),
    ({"priority": 77}, "chat"), ({"priority": 3, "vllm_xargs": {"service_class": "chat"}}, "chat"),
])
def test_the_service_class_of_a_request(body, name) -> None:
    async def work(session, one):
        seen = []
        submit = one.engine.submit

        async def watched(request, output_tokens):
            seen.append(request)
            return await submit(request, output_tokens)

        one.engine.submit = watched
        await post(session, "/v1/completions", prompt=PROMPT, **body)
        return seen

    (request,) = http(work)
    assert request.service_class.name == name
    assert (request.prompt_tokens, request.max_tokens, request.model) == (5, 16, "llama-3-8b")
    assert request.prefix_hashes == ()


def test_equal_prefixes_are_found_in_the_cache() -> None:
    async def work(session, one):
        for _ in range(2):
            await post(session, "/v1/completions", prompt=[5] * 100, max_tokens=1)
        return one.engine.scheduler._kv.hit_rate

    assert http(work, **{"engine.prefix_caching": True}) == 96 / 200


# -- metrics, health, leaving -------------------------------------------------------------------

def test_metrics_count_what_happened() -> None:
    async def work(session, one):
        before = await samples(session)
        await post(session, "/v1/completions", prompt=[1] * 30, max_tokens=6, ignore_eos=True)
        await post(session, "/v1/chat/completions", messages=[{"role": "user", "content": "x"}])
        return before, await samples(session)

    before, after = http(work)
    assert before["vllm:prompt_tokens_total", ""] == 0
    assert after["vllm:prompt_tokens_total", ""] == 31
    assert after["vllm:generation_tokens_total", ""] == 46
    assert after["vllm:request_success_total", "length"] == 1
    assert after["vllm:request_success_total", "stop"] == 1
    assert after["vllm:request_success_total", "abort"] == 0
    assert after["vllm:num_preemptions_total", ""] == 0
    assert after["vllm:inter_token_latency_seconds_count", ""] == 44
    for name in ("time_to_first_token", "e2e_request_latency", "request_queue_time"):
        assert after[f"vllm:{name}_seconds_count", ""] == 2
    assert (after["vllm:e2e_request_latency_seconds_sum", ""]
            >= after["vllm:time_to_first_token_seconds_sum", ""] > 0)
    for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"):
        assert after[f"vllm:{name}", ""] == 0


def test_durations_are_told_in_the_time_of_clients() -> None:
    async def work(session, one):
        await post(session, "/v1/completions", prompt=[1] * 30, max_tokens=100, ignore_eos=True)
        return await samples(session)

    slow, fast = (http(work, speed)["vllm:inter_token_latency_seconds_sum", ""]
                  for speed in (100.0, 1000.0))
    assert slow == pytest.approx(10 * fast)


def test_preemptions_are_counted() -> None:
    async def work(session, one):
        await asyncio.gather(*(post(session, "/v1/completions", prompt=[1] * 60, max_tokens=100,
                                    ignore_eos=True) for _ in range(8)))
        return await samples(session)

    # Slow enough for all to be there together, however busy the machine is.
    after = http(work, 5.0, **{"engine.kv_tokens": 640, "policies.schedule": "sarathi"})
    assert after["vllm:num_preemptions_total", ""] > 0
    assert after["vllm:generation_tokens_total", ""] == 800


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_hangs_up_gives_its_kv_back(stream) -> None:
    async def work(session, one):
        ask = asyncio.create_task(post(session, "/v1/completions", prompt=[1] * 1000,
                                       max_tokens=7000, ignore_eos=True, stream=stream))
        await until(lambda: one.engine.scheduler.kv_used_tokens)
        held = await samples(session)
        ask.cancel()
        await until(lambda: not one.engine.num_live)
        await until(lambda: not one.engine.scheduler.kv_used_tokens)
        one.engine.scheduler.check_integrity()
        return held, await samples(session)

    held, after = http(work, speed=1.0)
    assert held["vllm:num_requests_running", ""] == 1
    assert 0 < held["vllm:kv_cache_usage_perc", ""] < 1
    assert after["vllm:num_requests_running", ""] == after["vllm:kv_cache_usage_perc", ""] == 0
    assert after["vllm:request_success_total", "abort"] == 1


def test_health_version_and_draining() -> None:
    async def work(session, one):
        found = []
        for draining in (False, True):
            one.server.draining = draining
            async with session.get("/health") as response:
                found.append(response.status)
            found.append((await post(session, "/v1/completions", prompt=PROMPT))[0])
        async with session.get("/version") as response:
            return found, await response.json()

    found, version = http(work)
    assert found == [200, 200, 503, 503]
    assert version["version"].startswith("penstock ")


def test_what_the_scheduler_sheds_ends_with_an_error() -> None:
    """A stream has begun with status 200 by then; its last frame before the mark says why."""
    async def work(session, one):
        begun = asyncio.create_task(post(session, "/v1/completions", prompt=PROMPT,
                                         max_tokens=4000, ignore_eos=True))
        await until(lambda: one.engine.num_live)
        async with session.post("/v1/completions", json={
                "prompt": PROMPT, "stream": True, "max_tokens": 4000}) as response:
            one.engine.close("the engine has no time for it")
            return response.status, await response.text(), await begun

    status, text, (whole_status, whole) = http(work, speed=1.0)
    assert status == 200
    error = frames(text)[-1]["error"]
    assert (error["message"], error["code"]) == ("the engine has no time for it", 503)
    assert (whole_status, whole["error"]["message"]) == (503, "the engine has no time for it")
