"""Counters of groups whose engines come, go, and start again."""

import asyncio

import aiohttp
from aiohttp import web

from penstock.engines.client.counters_text import Distribution, EngineCounters
from penstock.engines.http import listening
from penstock.engines.server.metrics import EngineMetrics
from penstock.serving.scaling.totals import CountersReader, TotalsMeter


def counters(finished, first_tokens=0, sum_s=0.0):
    return EngineCounters(finished, 10 * finished, finished, 0,
                          Distribution({0.001: 0.0, float("inf"): first_tokens}, sum_s))


def test_an_engine_counts_from_its_first_reading_on():
    meter = TotalsMeter()
    assert meter.totals() is None
    meter.add({"a": counters(100, 40, 9.0)})
    assert meter.totals().num_finished == 0
    meter.add({"a": counters(130, 60, 11.0), "b": counters(7)})
    totals = meter.totals()
    assert (totals.num_finished, totals.prompt_tokens) == (30, 300)
    assert (totals.ttft[-1], totals.ttft_sum_s) == (20, 2.0)


def test_counters_never_fall_when_an_engine_starts_again_or_leaves():
    meter = TotalsMeter()
    meter.add({"a": counters(100), "b": counters(10)})
    meter.add({"a": counters(3), "b": counters(14)})
    assert meter.totals().num_finished == 7
    meter.add({"b": counters(15)})
    assert meter.totals().num_finished == 8
    meter.add({"a": counters(50), "b": counters(15)})
    assert meter.totals().num_finished == 8, "an address that returns is another engine"


def test_an_engine_that_does_not_answer_for_once_is_counted_later():
    meter = TotalsMeter()
    meter.add({"a": counters(10), "b": counters(0)})
    meter.add({"a": None, "b": counters(2)})
    assert meter.totals().num_finished == 2
    meter.add({"a": counters(16), "b": None})
    assert meter.totals().num_finished == 8
    meter.add({"a": None, "b": None})
    assert meter.totals() is None, "missing, not unchanged"


def test_engines_are_read_over_http():
    async def run():
        metrics, app = EngineMetrics("m"), web.Application()
        metrics.first_token(50, 0.2, 0.0)
        metrics.ended("stop", 1.0)

        async def show(_):
            return web.Response(body=metrics.text())

        app.router.add_get("/metrics", show)
        async with listening(app, "127.0.0.1", 0, 1.0) as url, aiohttp.ClientSession() as session:
            found = await CountersReader(session).read([url, "http://127.0.0.1:1", url])
        return found[url], found["http://127.0.0.1:1"]

    here, gone = asyncio.run(run())
    assert (here.num_finished, here.prompt_tokens) == (1, 50)
    assert gone is None
