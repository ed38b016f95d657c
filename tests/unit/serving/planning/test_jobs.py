"""Plans in processes of their own: how many, how long, and what becomes of them."""

import asyncio
import json
import os

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.serving.planning import jobs as module
from penstock.serving.planning.fleet_plan import EXAMPLE, Order
from penstock.serving.planning.jobs import Jobs, Limits

QUICK = Order(json.dumps(EXAMPLE))
LONG = Order(json.dumps({**EXAMPLE, "traffic": [
    {"trace": "azure-2023-conv", "rate_per_s": 50, "num_requests": 200_000}]}))


@pytest.fixture
def started(monkeypatch):
    """The processes that are started."""
    found = []
    start = asyncio.create_subprocess_exec

    async def noted(*arguments, **options):
        found.append(await start(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(module.asyncio, "create_subprocess_exec", noted)
    return found


def alive(process):
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_plan_is_answered():
    async def one():
        return await Jobs(Limits(), print).answer(QUICK)

    found = run(one())
    assert found.status == 200
    assert found.document["served_in_full"] is True


def test_the_time_limit_ends_the_process(started):
    async def one(order, limit_s):
        return await Jobs(Limits(time_limit_s=limit_s), print).answer(order)

    for order, limit_s in ((LONG, 0.2), (Order(LONG.text, time_limit_s=0.2), 1000.0),
                           (Order(LONG.text, time_limit_s=1000.0), 0.2)):
        found = run(one(order, limit_s))
        assert found.status == 504
        assert "0.2 s" in found.document["message"]
    assert len(started) == 3
    assert not any(map(alive, started))


def test_more_than_may_wait_are_told_when_to_come_back(started):
    async def many():
        jobs = Jobs(Limits(num_at_once=1, num_waiting=1, time_limit_s=0.3), print)
        first = [asyncio.create_task(jobs.answer(LONG)) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await jobs.answer(LONG)
        assert len(started) <= 1
        return refused, await asyncio.gather(*first), await jobs.answer(QUICK)

    refused, first, after = run(many())
    assert refused.status == 429
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Retry-After"] in refused.document["message"]
    assert [one.status for one in first] == [504, 504]
    assert after.status == 504  # admitted again: there was room
    assert len(started) == 3


def test_whoever_hangs_up_stops_the_work(started):
    async def one():
        jobs = Jobs(Limits(num_at_once=1, num_waiting=0), print)
        task = asyncio.create_task(jobs.answer(LONG))
        while not started:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not alive(started[0])
        return await jobs.answer(QUICK)

    assert run(one()).status == 200


def test_a_process_that_dies_is_a_bug_of_ours(monkeypatch):
    told = []
    monkeypatch.setattr(module, "encoded", lambda order, memory_mb: b"no order")

    async def one():
        return await Jobs(Limits(), told.append).answer(QUICK)

    found = run(one())
    assert found.status == 500
    assert "status 1" in found.document["message"]
    assert "Traceback" in told[0]
