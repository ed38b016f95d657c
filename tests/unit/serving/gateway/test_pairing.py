"""Pairs of emulated engines behind the gateway: one computes the prompt, another answers."""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")

import aiohttp

from penstock.core.errors import InputError
from penstock.engines.emulated.cluster import EmulatorOptions, emulated_cluster
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.answers import DECISION_HEADER
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.pairing import PREFILLED, check_roles
from penstock.serving.gateway.running import running
from penstock.serving.gateway.traces import NO_TRACING, OtelTracing
from support.fake_http_engines import http_engine, whole
from support.fake_pairs import SglangPair, TensorRtLlmPair, said
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


def test_whole_engines_beside_take_the_short_prompts_and_no_long_one() -> None:
    async def work(least):
        async with pairs(("prefill", "both", "decode"), min_prompt_tokens=least) as (session, _):
            return [(await ask(session))[2] for _ in range(4)]

    assert {attempt[0] for found in asyncio.run(work(5000)) for attempt in found} == {"replica 1"}
    assert [[one[0] for one in found] for found in asyncio.run(work(20))] == [
        ["replica 0", "replica 2"]] * 4


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


def test_an_answer_of_one_token_is_computed_by_the_second_engine() -> None:
    """The first engine has nothing to hand over where its first token ends the answer."""
    ended = {"id": "x", "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}

    async def work():
        async with http_engine(whole(ended), "llama-3-8b") as url, pairs() as (_, cluster):
            urls = [url, url, *(one.url for one in cluster.replicas[2:])]
            async with pairs(urls=urls) as (session, _):
                return await ask(session)

    status, _, attempts = asyncio.run(work())
    assert status == 200
    assert [outcome for _, outcome in attempts] == [PREFILLED, "answered 200"]


# -- SGLang and TensorRT-LLM, emulated ------------------------------------------------------------


@asynccontextmanager
async def paired(kind, pair, roles=("prefill", "decode"), dead=(), tracing=NO_TRACING):
    """The session of a gateway before engines of a pair."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(pair.engine(role)) for role in roles]
        fleet = parse_fleet(FLEET, overrides={"disaggregation": SPLIT, "replicas": [
            {"role": role, "engine": kind,
             "endpoints": ["http://127.0.0.1:9" if i in dead else url],
             "bootstrap_ports": [9123 + i]}
            for i, (role, url) in enumerate(zip(roles, urls, strict=True))]})
        check_roles(fleet)
        url, _ = await stack.enter_async_context(running(
            fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(), tracing=tracing))
        yield await stack.enter_async_context(aiohttp.ClientSession(url))


@pytest.mark.parametrize("stream", [True, False])
def test_sglangs_engines_get_the_same_request_at_once(stream) -> None:
    pair = SglangPair()

    async def work():
        async with paired("sglang", pair) as session:
            return await asyncio.gather(*(ask(session, stream=stream) for _ in range(5)))

    for status, text, attempts in asyncio.run(work()):
        assert status == 200
        assert all(word in text for word in said(ASK["prompt"], 12).split())
        assert attempts == [("replica 0", PREFILLED), ("replica 1", "answered 200")]
    first, second = pair.asked["prefill"], pair.asked["decode"]
    rooms = [one["bootstrap_room"] for one in second]
    assert sorted(rooms) == sorted(one["bootstrap_room"] for one in first)
    assert len(set(rooms)) == 5
    assert all(0 <= room < 1 << 63 for room in rooms)
    assert {(one["bootstrap_host"], one["bootstrap_port"]) for one in (*first, *second)} == {
        ("127.0.0.1", 9123)}
    assert not any(one["stream"] for one in first)


@pytest.mark.parametrize("stream", [True, False])
def test_a_failed_prefill_ends_the_wait_of_the_other_engine(stream) -> None:
    pair = SglangPair()
    pair.fails = True

    async def work():
        async with paired("sglang", pair) as session:
            return await ask(session, stream=stream)

    status, _, attempts = asyncio.run(work())
    assert status == 502
    assert attempts == [("replica 0", "answered 500"), ("replica 1", "got no KV cache from the "
                        "engine that was to compute the prompt")]
    assert pair.abandoned == 1


def test_another_engine_computes_the_prompt_where_one_fails() -> None:
    pair = SglangPair()

    async def work():
        async with paired("sglang", pair, ("prefill", "prefill", "decode"), dead=(0,)) as session:
            return await asyncio.gather(*(ask(session) for _ in range(6)))

    answers = asyncio.run(work())
    assert [status for status, _, _ in answers] == [200] * 6
    assert all(attempts[-2:] == [("replica 1", PREFILLED), ("replica 2", "answered 200")]
               for _, _, attempts in answers)


@pytest.mark.parametrize("dead", [(0,), (1,)])
def test_sglangs_engines_serve_nothing_alone(dead) -> None:
    pair = SglangPair()

    async def work():
        async with paired("sglang", pair, dead=dead) as session:
            return await ask(session)

    status, _, attempts = asyncio.run(work())
    assert status == 503
    assert attempts == []
    assert pair.asked == {"prefill": [], "decode": []}


def test_a_client_that_leaves_ends_both_parts() -> None:
    pair = SglangPair()
    barrier = asyncio.Barrier

    async def work():
        async with paired("sglang", pair) as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), session.post("/v1/completions", json=ASK):
                    pass
            while pair.abandoned < 2:
                await asyncio.sleep(0.01)

    with pytest.MonkeyPatch.context() as patch:  # a room in which nobody ever meets
        patch.setattr(asyncio, "Barrier", lambda _: barrier(3))
        asyncio.run(asyncio.wait_for(work(), 30))


def test_the_spans_of_both_parts_are_within_the_request() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def work():
        async with paired("sglang", SglangPair(),
                          tracing=OtelTracing(provider.get_tracer("test"))) as session:
            return await ask(session)

    assert asyncio.run(work())[0] == 200
    spans = exporter.get_finished_spans()
    assert [one.name for one in spans] == ["choose", "choose", "attempt", "attempt", "request"]
    assert [one.attributes["penstock.outcome"] for one in spans[2:4]] == [
        "answered 200", PREFILLED]


@pytest.mark.parametrize("stream", [True, False])
def test_tensorrt_llms_context_is_handed_on(stream) -> None:
    pair = TensorRtLlmPair()

    async def work():
        async with paired("tensorrt-llm", pair) as session:
            return await asyncio.gather(*(ask(session, stream=stream) for _ in range(4)))

    for status, text, attempts in asyncio.run(work()):
        assert status == 200
        assert all(word in text for word in said(ASK["prompt"], 12).split())
        assert "disaggregated_params" not in text
        assert attempts == [("replica 0", PREFILLED), ("replica 1", "answered 200")]
    assert pair.states == {}


def test_tensorrt_llm_serves_whole_where_a_role_is_lost_or_the_first_token_ends() -> None:
    async def work(pair, dead):
        async with paired("tensorrt-llm", pair, dead=dead) as session:
            return await ask(session)

    ends = TensorRtLlmPair()
    ends.ends_at_once = True
    for pair, dead in ((TensorRtLlmPair(), (0,)), (TensorRtLlmPair(), (1,)), (ends, ())):
        status, text, _ = asyncio.run(work(pair, dead))
        assert status == 200
        assert all(word in text for word in said(ASK["prompt"], 12).split())


@pytest.mark.parametrize(("more", "wanted"), [
    ({"engine": "ollama"}, "engine: ollama; expected vllm, sglang or tensorrt-llm"),
    ({"engine": "sglang", "endpoints": None}, "starts no sglang with a KV connector"),
    ({"engine": "sglang"}, "min_prompt_tokens: 9, but the engines of replicas")])
def test_roles_that_cannot_be_served(more, wanted) -> None:
    groups = [{"role": role, "endpoints": [f"http://127.0.0.1:{9000 + i}"], **more}
              for i, role in enumerate(("prefill", "decode"))]
    fleet = parse_fleet(FLEET, overrides={
        "disaggregation": {**SPLIT, "min_prompt_tokens": 9}, "replicas": groups})
    with pytest.raises(InputError, match=wanted):
        check_roles(fleet)
    if "min_prompt_tokens" in wanted:
        beside = {"role": "both", "endpoints": ["http://127.0.0.1:9002"], **more}
        check_roles(parse_fleet(FLEET, overrides={
            "disaggregation": {**SPLIT, "min_prompt_tokens": 9}, "replicas": [*groups, beside]}))
