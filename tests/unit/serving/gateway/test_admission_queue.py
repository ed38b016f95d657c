"""Who gets a place, in which order, and who is told to come back."""

import asyncio
import time

import pytest

pytest.importorskip("aiohttp", reason="the extra 'serve' is not installed")

from penstock.core.slo import Slo
from penstock.serving.errors import ServiceError
from penstock.serving.gateway.admission_queue import AdmissionQueue

NO_HURRY = Slo()


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def run(work):
    return asyncio.run(asyncio.wait_for(work(), 30))


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_most_urgent_first_then_by_arrival() -> None:
    async def work():
        queue, order = AdmissionQueue(1, 10, Clock()), []
        await queue.enter(1, NO_HURRY)

        async def one(name, priority):
            await queue.enter(priority, NO_HURRY)
            order.append(name)
            queue.leave()

        tasks = []
        for name, priority in (("late", 3), ("first", 1), ("second", 1), ("third", 2)):
            tasks.append(asyncio.create_task(one(name, priority)))
            await settled()
        assert queue.num_waiting == 4
        queue.leave()
        await asyncio.gather(*tasks)
        return order, queue.num_in_flight, queue.num_waiting

    assert run(work) == (["first", "second", "third", "late"], 0, 0)


def test_a_full_queue_says_so() -> None:
    async def work():
        queue = AdmissionQueue(1, 1, Clock())
        await queue.enter(1, NO_HURRY)
        waiting = asyncio.create_task(queue.enter(1, NO_HURRY))
        await settled()
        with pytest.raises(ServiceError, match="as many as this gateway takes") as caught:
            await queue.enter(0, NO_HURRY)
        queue.leave()
        await waiting
        return caught.value

    error = run(work)
    assert (error.status, error.code, error.headers) == (429, "too_many_requests",
                                                         {"Retry-After": "1"})


def test_who_cannot_be_there_in_time_is_told_at_once() -> None:
    clock = Clock()

    async def work():
        queue = AdmissionQueue(1, 100, clock)
        await queue.enter(1, NO_HURRY)
        tasks = [asyncio.create_task(queue.enter(1, NO_HURRY)) for _ in range(12)]
        await settled()
        for _ in range(4):
            clock.now_s += 3.0
            queue.leave()
            await settled()
        with pytest.raises(ServiceError, match="its first token is due in 5 s") as caught:
            await queue.enter(1, Slo(ttft_s=5.0))
        urgent = asyncio.create_task(queue.enter(0, Slo(ttft_s=5.0)))
        await settled()
        assert queue.num_waiting == 9, "who is more urgent has nobody before it"
        for _ in range(10):
            queue.leave()
        await asyncio.gather(urgent, *tasks)
        return caught.value

    error = run(work)
    assert error.code == "deadline"
    assert error.headers == {"Retry-After": "27"}


def test_an_idle_hour_is_no_slow_hour() -> None:
    clock = Clock()

    async def work():
        queue = AdmissionQueue(1, 100, clock)
        for _ in range(3):
            await queue.enter(1, NO_HURRY)
            waiting = asyncio.create_task(queue.enter(1, NO_HURRY))
            await settled()
            clock.now_s += 0.5
            queue.leave()
            await waiting
            queue.leave()
            clock.now_s += 3600.0
        await queue.enter(1, NO_HURRY)
        soon = asyncio.create_task(queue.enter(1, Slo(ttft_s=1.0)))
        await settled()
        assert queue.num_waiting == 1
        queue.leave()
        await soon

    run(work)


def test_who_waited_too_long_is_told_so() -> None:
    async def work():
        queue = AdmissionQueue(1, 5, Clock())
        await queue.enter(1, NO_HURRY)
        with pytest.raises(ServiceError, match=r"waited 0.01 s for its turn"):
            await queue.enter(1, Slo(ttft_s=0.01))
        queue.leave()
        return queue.num_in_flight, queue.num_waiting

    assert run(work) == (0, 0)


def test_who_leaves_the_queue_leaves_no_hole() -> None:
    async def work():
        queue = AdmissionQueue(1, 5, Clock())
        await queue.enter(1, NO_HURRY)
        gone, stays = (asyncio.create_task(queue.enter(1, NO_HURRY)) for _ in range(2))
        await settled()
        gone.cancel()
        await settled()
        assert queue.num_waiting == 1
        queue.leave()
        await stays
        # A place that comes in the moment in which its taker leaves goes on to the next.
        last, next_one = (asyncio.create_task(queue.enter(1, NO_HURRY)) for _ in range(2))
        await settled()
        queue.leave()
        last.cancel()
        await next_one
        queue.leave()
        return queue.num_in_flight, queue.num_waiting

    assert run(work) == (0, 0)


def test_who_leaves_when_its_time_is_over_gives_back_no_place_it_never_had() -> None:
    async def work():
        queue = AdmissionQueue(1, 5, Clock())
        await queue.enter(1, NO_HURRY)
        late = asyncio.create_task(queue.enter(1, Slo(ttft_s=0.01)))
        await settled()
        # In the same turn of the loop, and behind it: the task has not heard of its time's end.
        asyncio.get_running_loop().call_later(0.01, late.cancel)
        time.sleep(0.02)
        with pytest.raises((asyncio.CancelledError, ServiceError)):
            await late
        assert (queue.num_in_flight, queue.num_waiting) == (1, 0)
        queue.leave()
        return queue.num_in_flight

    assert run(work) == 0
