"""Two gateways on one ledger, asked all at once: their limits hold over both of them.

    pytest -s tests/unit/serving/tenants/live_shared_limits.py

Not part of the suite: the figures depend on the machine's speed. The laws of slices are in
``test_slices.py``.
"""

import asyncio
import secrets
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")
pytest.importorskip("prometheus_client", reason="the extra 'serve' is not installed")
pytest.importorskip("sqlalchemy", reason="the extra 'serve' is not installed")

import aiohttp
from aiohttp import web

from penstock.core.money import to_nanos
from penstock.fleet.load import parse_fleet
from penstock.policy.route.simple import LeastLoaded
from penstock.serving.gateway.limits import Limits
from penstock.serving.gateway.running import Access, running
from penstock.serving.tenants.keys import new_key
from penstock.serving.tenants.store import open_store
from penstock.serving.tenants.tables import METADATA
from support.fake_http_engines import http_engine
from support.small_fleet import FLEET

NUM_REQUESTS = 1800
LIMIT = 160
BODY = {"prompt": [1] * 10, "max_tokens": 10}
HOLD = 10 * 1_000 + 10 * 10_000  # nanos of one request
PRICE = {"input_per_million": 1.0, "output_per_million": 10.0}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.process)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    found = request.getfixturevalue("postgres")
    store = open_store(found)
    METADATA.drop_all(store._engine)
    store.close()
    return found


class Engine:
    """Counts the requests in flight over all gateways, each of which takes ``serve_s``."""

    def __init__(self, serve_s):
        self.serve_s = serve_s
        self.now = self.peak = self.total = 0

    async def answer(self, request):
        await request.read()
        self.now += 1
        self.total += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(self.serve_s)
        finally:
            self.now -= 1
        return web.json_response({
            "choices": [{"index": 0, "text": "t" * 10, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 10}})


class Pair:
    """Two gateways before one engine."""

    def __init__(self, url, engine, **limits):
        self.url, self.engine = url, engine
        self.tenants = [{"name": "shop", **limits}]
        self.statuses = Counter()
        self.took_s = 0.0

    async def ask(self, number, body=BODY):
        session = self.sessions[number % 2]
        async with session.post("/v1/completions", json=body) as answer:
            found = await answer.json()
            self.statuses[answer.status, found.get("error", {}).get("code")] += 1
            if answer.status == 503:  # this process serves and asks, and its loop may be late
                assert found["error"]["code"] in ("overloaded", "no_engine"), found
                return
            assert answer.status in (200, 429), found
            assert "Retry-After" in answer.headers or answer.status == 200 \
                or found["error"]["code"] == "budget_exhausted", found

    @property
    def is_calm(self):
        """Whether the machine kept up: nothing was shed, and requests did not wait for the loop."""
        return self.took_s < 8.0 and not any(status == 503 for status, _ in self.statuses)

    async def __aenter__(self):
        self._stack = stack = AsyncExitStack()
        store = open_store(self.url)
        text, key = new_key("shop", 0.0, secrets.token_bytes)
        store.add_key(key)
        store.close()
        there = await stack.enter_async_context(http_engine(self.engine.answer))
        fleet = parse_fleet(FLEET, overrides={
            "models": [{"name": "llama-3-8b", "price": PRICE}],
            "replicas": [{"count": 1, "endpoints": [there]}],
            "gateway": {"tenants": self.tenants}})
        self.sessions = []
        for _ in range(2):
            found, _ = await stack.enter_async_context(running(
                fleet, LeastLoaded(), "127.0.0.1", 0, limits=Limits(),
                access=Access(self.url)))
            self.sessions.append(await stack.enter_async_context(aiohttp.ClientSession(
                found, headers={"Authorization": f"Bearer {text}"},
                connector=aiohttp.TCPConnector(limit=0))))
        return self

    async def __aexit__(self, *error):
        await self._stack.aclose()


def between(work, url, engine, **limits):
    async def run():
        async with Pair(url, engine, **limits) as pair:
            return await work(pair)

    return asyncio.run(asyncio.wait_for(run(), 120))


async def all_at_once(pair):
    await pair.ask(0)  # the first gateway has the whole limit
    begun_s = time.monotonic()
    await asyncio.gather(*(pair.ask(number) for number in range(NUM_REQUESTS)))
    pair.took_s = time.monotonic() - begun_s
    return pair.took_s, pair.statuses, pair.is_calm


def test_max_in_flight_holds_over_both(url) -> None:
    engine = Engine(4.0)
    _, found, calm = between(all_at_once, url, engine, max_in_flight=LIMIT)
    print("peak in flight:", engine.peak, "of", LIMIT)
    assert engine.peak <= LIMIT
    assert not calm or engine.peak > 0.9 * LIMIT, "and nearly all places are used"
    assert sum(found.values()) == NUM_REQUESTS + 1
    assert {code for status, code in found if status == 429} == {"max_in_flight"}


def test_requests_per_minute_hold_over_both(url) -> None:
    took_s, found, calm = between(all_at_once, url, Engine(0.01), requests_per_minute=LIMIT)
    passed = found[200, None]
    print("passed:", passed, "of", LIMIT, "per minute in", took_s, "s")
    assert passed <= LIMIT * (1 + (took_s + 1) / 60) + 1
    assert not calm or passed >= 0.9 * LIMIT
    assert {code for status, code in found if status == 429} == {"requests_per_minute"}


def test_tokens_per_minute_hold_over_both(url) -> None:
    took_s, found, calm = between(all_at_once, url, Engine(1.0), tokens_per_minute=LIMIT * 20)
    print("passed:", found[200, None], "of", LIMIT, "requests' tokens per minute in", took_s, "s")
    assert 20 * found[200, None] <= LIMIT * 20 * (1 + (took_s + 5) / 60) + 20
    assert not calm or found[200, None] >= 0.5 * LIMIT
    assert {code for status, code in found if status == 429} == {"tokens_per_minute"}


def test_no_budget_is_exceeded_by_both(url) -> None:
    budget = 100 * HOLD

    async def work(pair):
        for _ in range(4):
            await asyncio.gather(*(pair.ask(number) for number in range(150)))
            await asyncio.sleep(0.3)
        return pair.statuses, pair.is_calm

    found, calm = between(work, url, Engine(0.05),
                    budget={"amount": budget / to_nanos(1.0), "per": "total"})
    store = open_store(url)
    spent = store.spent_since(0)["shop"]
    store.close()
    print("spent share of the budget:", spent / budget)
    assert spent == HOLD * found[200, None]
    assert spent <= budget
    assert not calm or spent >= 0.9 * budget
