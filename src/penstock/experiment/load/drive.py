"""Drivers of load: requests at scheduled times, or a fixed number in flight."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

from penstock.engines.client.answer import Answer

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


Send = Callable[[Answer], Awaitable[object]]
"""Sends a request and fills in the answer as it arrives."""
Ready = Callable[[int], Send]
"""Makes request n, and answers the call that sends it."""
Take = Callable[[int, float, Answer], None]
"""Receives the answer to request n, with the moment at which the request was due."""


async def open_loop(ready: Ready, take: Take, arrival_s: Sequence[float], start_s: float,
                    clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
    """Send request n at ``start_s + arrival_s[n]``, however many are still under way.

    Nothing waits for an answer, so a server that stalls delays no request: what is due is sent, and
    its latency counts from when it was due.
    """
    async with asyncio.TaskGroup() as group:
        for number, offset_s in enumerate(arrival_s):
            due_s = start_s + offset_s
            send = ready(number)  # made up before its time, so that it is not late for that
            while (wait_s := due_s - clock()) > 0:
                await sleep(wait_s)
            group.create_task(_one(take, number, due_s, send))
            if number % 16 == 15:
                await asyncio.sleep(0)  # who is late must not keep others from being read


async def closed_loop(ready: Ready, take: Take, concurrency: int, num_requests: int | None,
                      until_s: float, clock: Clock) -> None:
    """Keep ``concurrency`` requests under way: each end is the next one's beginning.

    Stops sending after ``num_requests`` or at ``until_s``, and waits for what is under way. A
    request is due when its predecessor ended, so there is no schedule that could be omitted from.
    """
    numbers = count() if num_requests is None else iter(range(num_requests))

    async def work() -> None:
        while (due_s := clock()) < until_s:
            number = next(numbers, None)
            if number is None:
                return
            await _one(take, number, due_s, ready(number))

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


async def _one(take: Take, number: int, due_s: float, send: Send) -> None:
    answer = Answer(math.nan)
    try:
        await send(answer)
    finally:  # a run that is ended early counts what was under way
        if not math.isnan(answer.sent_s):
            take(number, due_s, answer)
