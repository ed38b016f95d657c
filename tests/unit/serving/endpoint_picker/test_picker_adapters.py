"""Adapters behind an endpoint picker: loaded on the endpoint that it names, and kept there."""

import asyncio
from collections import OrderedDict

import orjson
import pytest

pytest.importorskip("grpc", reason="the extra 'kubernetes' is not installed")

from penstock.engines.client.metrics_text import EngineLoad
from penstock.engines.client.state import EngineFacts
from penstock.fleet.values_adapters import LoraOptions
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.adapters.adapters import Adapters, adapters_of
from penstock.serving.adapters.claims import OneProcess
from penstock.serving.adapters.shelf import AdapterError
from penstock.serving.endpoint_picker.limits import PickerOptions
from penstock.serving.endpoint_picker.running import books_of
from penstock.serving.endpoint_picker.stream import StreamContext
from penstock.serving.gateway.server import offer_of
from support.picker_streams import (
    DESTINATION,
    MODEL,
    SmallPool,
    address,
    body_of,
    head_mutation,
    response_body,
    response_head,
)

ASK = {"model": "sql", "prompt": "hello", "max_tokens": 8}


class FakeCalls:
    def __init__(self):
        self.there, self.broken = {}, set()

    async def load(self, engine, adapter):
        await asyncio.sleep(0)
        if engine.facts.url in self.broken:
            raise AdapterError(f"could not load {adapter.name}")
        self.there.setdefault(engine.facts.url, OrderedDict())[adapter.served_name] = None

    async def unload(self, engine, name):
        del self.there[engine.facts.url][name]

    async def listed(self, engine):
        return OrderedDict(self.there.get(engine.facts.url, ()))


def pool_of(num_fallbacks=0):
    """A pool of three endpoints with room for one adapter each, and their fake engines."""
    pool = SmallPool(models=[{"name": MODEL, "adapters": [
        {"name": "sql", "path": "hub/sql", "served_as": "s"}, {"name": "poem", "path": "p"}]}],
        replicas=[{"count": 3, "lora": {"max_loras": 1},
                   "endpoints": [f"http://{address(n)}" for n in range(3)]}])
    pool.engines.adopt([EngineFacts(n, f"http://{address(n)}", MODEL, None, 100_000, 1.0,
                                    lora=LoraOptions(1)) for n in range(3)])
    for engine in pool.engines:
        engine.observe(EngineLoad(0, 0, 0.0), pool.now_s)
    calls = FakeCalls()
    adapters = Adapters(pool.engines, calls, adapters_of(pool.fleet), lambda: pool.now_s,
                        pool.bugs.append, OneProcess())
    pool.books = books_of(pool.fleet, pool.engines, LeastLoaded(),
                          PickerOptions(num_fallbacks=num_fallbacks), lambda: pool.now_s, adapters)
    offer = offer_of(pool.fleet)
    pool.context = StreamContext(pool.books, lambda: offer, pool.guard, pool.options,
                                 lambda: None, pool.bugs.append)
    return pool, calls, adapters


def test_the_adapter_is_loaded_where_the_request_goes_and_stays_until_its_end():
    async def run():
        pool, calls, adapters = pool_of(num_fallbacks=2)
        stream, replies = await pool.asked(ASK)
        assert head_mutation(replies[0])[DESTINATION] == address(0), "no fallback has it"
        assert orjson.loads(body_of(replies, "request_body"))["model"] == "s"
        assert calls.there == {f"http://{address(0)}": OrderedDict(s=None)}
        assert adapters._shelf(pool.engines[0]).users == {"s": 1}
        again, replies = await pool.asked(ASK)
        assert head_mutation(replies[0])[DESTINATION] == address(0), "it is near there"
        again.close()
        await stream.take(response_head())
        (reply,) = await stream.take(response_body({"model": "s", "usage": {}}))
        assert orjson.loads(body_of([reply], "response_body"))["model"] == "sql"
        assert not adapters._shelf(pool.engines[0]).users
        assert not pool.bugs

    asyncio.run(run())


def test_another_endpoint_loads_what_one_cannot():
    async def run():
        pool, calls, _ = pool_of()
        calls.broken.add(f"http://{address(0)}")
        stream, replies = await pool.asked(ASK)
        assert head_mutation(replies[0])[DESTINATION] == address(1)
        stream.close()
        calls.broken |= {f"http://{address(n)}" for n in (1, 2)}
        _, (reply,) = await pool.asked({**ASK, "model": "poem"})
        assert reply.immediate_response.status.code == 503
        document = orjson.loads(reply.immediate_response.body)
        assert document["error"]["code"] == "adapter_unavailable"
        headers = {one.header.key: one.header.raw_value for one in
                   reply.immediate_response.headers.set_headers}
        assert headers["retry-after"] == b"5"
        assert headers["x-llm-d-request-dropped-reason"] == b"rejected-no-endpoints"

    asyncio.run(run())


def test_a_404_of_the_endpoint_is_learned_from():
    async def run():
        pool, _calls, adapters = pool_of()
        stream, _ = await pool.asked(ASK)
        await stream.take(response_head(404))
        assert adapters.loaded(pool.engines[0]) == []
        stream.close()

    asyncio.run(run())
