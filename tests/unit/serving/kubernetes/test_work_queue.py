"""Fleets that want a look."""

import asyncio
from itertools import pairwise

import pytest

from penstock.serving.kubernetes import work_queue
from penstock.serving.kubernetes.objects import Ref
from penstock.serving.kubernetes.work_queue import WorkQueue
from support.simulated_loop import SimulatedLoop

A, B = (Ref("Fleet", "ns", name) for name in "ab")


def at_work(work, then):
    """Run a script beside a queue at work, in simulated time."""
    loop = SimulatedLoop(None, shuffled=False)

    async def both():
        queue = WorkQueue(loop.time)
        task = asyncio.create_task(queue.run(lambda key: work(queue, key)))
        try:
            await then(queue)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    try:
        loop.run_until_complete(both())
    finally:
        loop.close()


def test_changes_that_come_together_are_one_look_and_later_ones_another():
    looks = []

    async def work(queue, key):
        looks.append(key)
        await asyncio.sleep(10.0)

    async def then(queue):
        for _ in range(9):
            queue.add(A)
        queue.add(B)
        await asyncio.sleep(1.0)
        assert sorted(looks) == [A, B]
        queue.add(A)
        queue.add(A)
        await asyncio.sleep(5.0)
        assert len(looks) == 2  # A is at work still
        await asyncio.sleep(10.0)
        assert sorted(looks) == [A, A, B]

    at_work(work, then)


def test_a_fleet_that_hangs_holds_no_other_up():
    looks = []

    async def work(queue, key):
        if key == A:
            await asyncio.sleep(3600.0)
        looks.append(key)

    async def then(queue):
        queue.add(A)
        for _ in range(5):
            queue.add(B)
            await asyncio.sleep(1.0)
        assert looks == [B] * 5

    at_work(work, then)


@pytest.mark.parametrize("least_s", [0.0, 45.0])
def test_a_fleet_that_fails_waits_ever_longer(least_s):
    times = []

    async def work(queue, key):
        times.append(asyncio.get_running_loop().time())
        if len(times) < 12:
            queue.failed(key, least_s)
        else:
            queue.forget(key)

    async def then(queue):
        queue.add(A)
        for _ in range(6000):
            await asyncio.sleep(0.1)
            queue.add(A)  # changes do not shorten a wait
        assert len(times) > 12

    at_work(work, then)
    waits = [later - sooner for sooner, later in pairwise(times)][:11]
    assert waits == sorted(waits)
    assert waits[0] >= max(work_queue.APART_S, least_s)
    assert waits[-1] == pytest.approx(max(work_queue.MOST_APART_S, least_s), abs=0.5)


def test_a_fleet_that_gets_on_does_not_wait_longer():
    times = []

    async def work(queue, key):
        times.append(asyncio.get_running_loop().time())
        queue.got_on(key)
        if len(times) < 12:
            queue.failed(key)

    async def then(queue):
        queue.add(A)
        await asyncio.sleep(60.0)

    at_work(work, then)
    assert [later - sooner for sooner, later in pairwise(times)] == pytest.approx(
        [work_queue.APART_S] * 11, abs=1e-3)
