"""Engines that others start: targets by webhook, and advice."""

import asyncio
import json

import aiohttp
from aiohttp import web

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.http import listening
from penstock.serving.scaling.remote import AdvisedGroup, WebhookGroup
from support.scaled_group import engine


def engines_of(num):
    found = [engine(number) for number in range(num)]
    for one in found:
        one.observe(EngineLoad(), 0.0)
    return found


def test_the_target_of_advice_is_the_number_of_engines():
    engines = engines_of(3)
    group = AdvisedGroup(engines, range(1, 3), lambda: 5.0)
    assert group.target == 2
    engines[2].draining = True
    engines[1].lost()
    assert group.target == 1
    assert [one.state for one in group.replicas()] == ["starting", "draining"]
    group.order(7)
    assert group.target == 1


def test_a_target_is_posted_until_it_is_accepted_and_the_missing_count_as_starting():
    async def run():
        got, answers, now_s = [], [503, 200], [0.0]

        async def receive(http):
            got.append((await http.json(), http.headers["Authorization"]))
            return web.Response(status=answers.pop(0))

        app, notes = web.Application(), []
        app.router.add_post("/scale", receive)
        async with listening(app, "127.0.0.1", 0, 1.0) as url, aiohttp.ClientSession() as session:
            group = WebhookGroup(AdvisedGroup(engines_of(1), range(1), lambda: now_s[0]),
                                 lambda: now_s[0], session,
                                 f"{url}/scale", {"group": 0, "model": "m", "accelerator": "a"},
                                 {"Authorization": "Bearer secret"}, notes.append)
            await group.tend()
            assert got == [], "nothing was ordered"
            group.order(3)
            assert [one.state for one in group.replicas()] == ["ready", "starting", "starting"]
            for now_s[0] in (1.0, 2.0, 8.0, 20.0):
                await group.tend()
                group.order(3)
        return got, notes

    got, notes = asyncio.run(run())
    assert got == [({"group": 0, "model": "m", "accelerator": "a", "replicas": 3},
                    "Bearer secret")] * 2
    assert len(notes) == 1
    assert "answered 503" in notes[0]
    assert "secret" not in json.dumps(notes)


def test_an_unreachable_receiver_is_told_and_stops_nothing():
    async def run():
        notes = []
        async with aiohttp.ClientSession() as session:
            group = WebhookGroup(AdvisedGroup(engines_of(2), range(2), lambda: 0.0),
                                 lambda: 0.0, session,
                                 "http://127.0.0.1:1/scale", {"model": "m"}, {}, notes.append)
            group.order(1)
            await group.tend()
            assert group.target == 1
        return notes

    assert "failed" in asyncio.run(run())[0]
