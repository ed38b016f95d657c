"""Loads of Inferno's servers from Prometheus."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from penstock.published.inferno.cluster.series import Series, measured, queries
from penstock.published.inferno.values import Load
from penstock.serving.scaling.prometheus import Prometheus
from support.fake_prometheus import FakePrometheus

FIGURES = {"finished": 0.5, "prompt": 64.0, "output": 512.0, "ttft": 0.1, "first": 0.5,
           "itl": 0.01, "paced": 0.5, "running": 3.0}


def figures(**changed):
    return {name: {("a",): value} if value is not None else {}
            for name, value in (FIGURES | changed).items()}


def test_completions_are_the_arrivals_and_means_are_in_ms():
    found = measured(figures(), [("a",)])
    assert found.load == Load(30.0, 128, 1024, 30.0)
    assert (found.ttft_ms, found.itl_ms) == pytest.approx((200.0, 20.0))


def test_pods_of_a_server_count_together_and_no_others():
    two = {name: {("ns", "p-0"): value, ("ns", "p-1"): value, ("ns", "q-0"): 9.0 * value}
           for name, value in FIGURES.items()}
    assert measured(two, [("ns", "p-0"), ("ns", "p-1"), ("ns", "p-2")]).load == Load(
        60.0, 128, 1024, 60.0)


@pytest.mark.parametrize(("changed", "expected"), [
    ({"finished": 0.0, "running": 0.0}, Load()),
    ({"finished": 0.0, "running": None}, Load()),
    ({"finished": 0.0}, None),     # requests run, and none has ended: nobody knows the load
    ({"finished": None}, None)])
def test_no_series_is_no_load_of_0(changed, expected):
    found = measured(figures(**changed), [("a",)])
    assert (found and found.load) == expected


def test_missing_latencies_are_0():
    found = measured(figures(ttft=None, first=None, paced=0.0), [("a",)])
    assert (found.ttft_ms, found.itl_ms) == (0.0, 0.0)


def test_a_figure_of_all_servers_is_one_query():
    asked = queries("serversim", 60.0)
    assert asked["finished"] == "sum by (job) (rate(vllm:request_success_total[60000ms]))"
    assert queries("llmd", 1.5)["running"] == (
        "sum by (namespace, pod) (max_over_time(vllm:num_requests_running[1500ms]))")
    prometheus = FakePrometheus()

    async def answer(request):
        name = next(name for name, query in asked.items() if query == request.query["query"])
        result = [{"metric": {"job": "a"}, "value": [1.0, str(FIGURES[name])]},
                  {"metric": {"job": "b"}, "value": [1.0, "NaN"]}]
        return web.json_response({"status": "success",
                                  "data": {"resultType": "vector", "result": result}})

    prometheus.answer = answer

    async def read():
        async with prometheus.server() as url, aiohttp.ClientSession() as session:
            return await Series(Prometheus(session, url, {}), "serversim", 60.0).read()

    assert asyncio.run(read()) == figures()
    assert len(prometheus.queries) == len(FIGURES)
