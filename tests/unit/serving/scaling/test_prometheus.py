"""Queries to Prometheus' HTTP API, answered well and badly."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from penstock.serving.scaling import prometheus as module
from penstock.serving.scaling.prometheus import Prometheus, PrometheusError
from support.fake_http_engines import nobody
from support.fake_prometheus import FakePrometheus, engine_samples


def ask(fake, what="series", **headers):
    async def run():
        async with fake.server() as url, aiohttp.ClientSession() as session:
            server = Prometheus(session, f"{url}/", headers)
            return await (server.time_s() if what == "time" else server.series("{x=~\"y\"}[60s]"))

    return asyncio.run(run())


def test_samples_have_the_time_of_their_scrape_and_the_token_is_sent():
    fake = FakePrometheus(engine_samples("a", finished=3, kv="NaN", at_s=1700.25))
    found = {one.labels["__name__"]: one for one in ask(fake, Authorization="Bearer secret")}
    assert found["vllm:request_success_total"][1:] == (1700.25, 3.0)
    assert found["vllm:kv_cache_usage_perc"].value != found["vllm:kv_cache_usage_perc"].value
    assert fake.headers[0]["Authorization"] == "Bearer secret"
    assert ask(FakePrometheus(clock=lambda: 17.5), "time") == 17.5


def document(**data):
    async def answer(_):
        return web.json_response({"status": "success", "data": data})
    return answer


async def huge(request):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        while True:
            await response.write(b" " * 65536)
    except ConnectionError:
        return response


async def not_json(_):
    return web.Response(text="<html>hello</html>")


async def deep(_):
    return web.Response(text="[" * 200_000)


async def refused(_):
    return web.json_response({"status": "error", "error": "parse error:\x1b[31m bad\n"}, status=400)


async def elsewhere(request):
    raise web.HTTPFound("/api/v1/query?query=time()&again=1")


async def silent(_):
    await asyncio.sleep(10)


@pytest.mark.parametrize(("answer", "said"), [
    (huge, "sends more than 1 MiB"),
    (not_json, "status 200, and not with a result"),
    (deep, "not with a result"),
    (refused, "status 400: parse error:?[31m bad?"),
    (elsewhere, "status 302"),
    (silent, "does not answer within"),
    (document(), "without a result"),
    (document(resultType="matrix", result={}), "without a result"),
    (document(resultType="string", result=[1, "x"]), "without series"),
    (document(resultType="matrix", result=[{"metric": {}}]), "another form"),
    (document(resultType="matrix", result=[{"metric": [], "values": [[1, "1"]]}]), "another form"),
    (document(resultType="matrix", result=[{"metric": {}, "values": [[1, "one"]]}]),
     "another form"),
    (document(resultType="vector", result=[7]), "another form"),
])
def test_a_bad_answer_is_one_error_with_its_reason(answer, said, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BYTES", 2**20)
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.1 if answer is silent else 5.0)
    fake = FakePrometheus(answer=answer)
    with pytest.raises(PrometheusError) as raised:
        ask(fake)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(fake.queries) == 1, "a redirect is not followed"


@pytest.mark.parametrize("data", [
    {"resultType": "matrix", "result": []}, {"resultType": "scalar", "result": []},
    {"resultType": "scalar", "result": [1, None]}, {"resultType": "scalar", "result": [1, "NaN"]}])
def test_a_time_that_is_no_number_is_an_error(data):
    with pytest.raises(PrometheusError, match="without a number"):
        ask(FakePrometheus(answer=document(**data)), "time")


def test_an_address_where_nobody_listens_is_an_error():
    async def run():
        async with nobody() as url, aiohttp.ClientSession() as session:
            await Prometheus(session, url, {}).time_s()

    with pytest.raises(PrometheusError, match="cannot be asked"):
        asyncio.run(run())
