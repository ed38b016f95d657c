"""Events of engines that come, go, and get other numbers in the fleet."""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import pytest

pytest.importorskip("zmq", reason="the extra 'kv-events' is not installed")
pytest.importorskip("msgspec", reason="the extra 'kv-events' is not installed")

from penstock.engines.client.state import EngineFacts
from penstock.engines.kv_events.decode import Stored, written
from penstock.engines.kv_events.keys import prompt_keys
from penstock.fleet.load import parse_fleet
from penstock.policy.route.live_index import LiveIndex
from penstock.serving.gateway.engines import Engines
from penstock.serving.kv_events import KvEvents, note_unread_events
from support.fake_kv_engine import FakeKvEngine
from support.small_fleet import FLEET

KEYS = prompt_keys(range(8), 4)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def facts(number, engine, url):
    return EngineFacts(number, url, "m", None, 10_000, 1.0, kv_events=engine.events,
                       kv_replay=engine.replay)


def test_a_changed_fleet_file_moves_what_is_known():
    async def run():
        one, two = FakeKvEngine(), FakeKvEngine()
        own = [facts(0, one, "http://one"), facts(1, two, "http://two")]
        engines, index = Engines(own), LiveIndex()
        events = KvEvents(engines, index, lambda _: None)
        task = asyncio.create_task(events.run())
        try:
            for engine, tokens in ((one, range(4)), (two, range(8))):
                await engine.subscribed()
                await engine.publish(0, written(time.time(), [
                    Stored(tuple(range(len(tokens) // 4)), None, tuple(tokens), 4)]))
            await until(lambda: (index.match(0, KEYS), index.match(1, KEYS)) == (1, 2))
            engines.adopt([replace(own[1], replica_id=0), replace(own[0], replica_id=1)])
            await until(lambda: (index.match(0, KEYS), index.match(1, KEYS)) == (2, 1))
            assert index.is_whole(0)
            assert index.block_tokens(1) == 4
            assert [found["url"] for found in events.document()] == ["http://one", "http://two"]
            engines.adopt([replace(own[1], replica_id=0)])
            engines.forget()
            await until(lambda: not index.follows(1))
            assert index.match(0, KEYS) == 2
            await two.publish(1, b"\xc1")
            await until(lambda: events.document()[0]["num_broken"] == 1)
            samples = {(sample.name, *sample.labels.values()): sample.value
                       for metric in events.collect() for sample in metric.samples}
            assert samples["penstock:kv_index_blocks", "http://two"] == 2
            assert samples["penstock:kv_events_total", "http://two", "stored"] == 1
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await one.close()
            await two.close()

    asyncio.run(run())


@pytest.mark.parametrize(("route", "is_read"), [
    ("prefix_aware", True), ("joint", True), ("least_added_time", True), ("least_loaded", False),
    ({"name": "best_route", "dispatcher": "prefix_aware"}, True), ("best_route", False)])
def test_events_that_no_router_reads_are_noted(route, is_read):
    group = {"count": 1, "endpoints": ["http://10.0.0.1:8000"], "kv_events": ["tcp://*:5557"]}
    noted: list[str] = []
    note_unread_events(parse_fleet(FLEET, overrides={
        "replicas": [group], "policies": {"route": route}}), noted.append)
    assert [line.startswith("replicas.kv_events: policies.route") for line in noted] == (
        [] if is_read else [True])
    note_unread_events(parse_fleet(FLEET, overrides={"policies": {"route": route}}), noted.append)
    assert len(noted) == (not is_read)
