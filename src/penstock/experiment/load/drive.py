"""Drivers of load: requests at scheduled times, or a fixed number in flight."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

from penstock.core.units import PS_PER_S, to_ps
from penstock.engines.client.answer import Answer
from penstock.workload.turns import Turns
from penstock.workload.workload import Links

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


async def linked_loop(ready: Ready, take: Take, arrival_s: Sequence[float], links: Links,
                      start_s: float, clock: Clock, sleep: Sleep = asyncio.sleep) -> None:
    """Send requests without links at their times, as an open loop does, and each other one once
    the answers that it waits for are there and its delays are over.

    A request is due at that moment, so what the server delays is not the load generator's, and what
    the load generator delays counts as latency of the late request. A request that failed counts as
    answered. Prompts of next turns are made up while the answers before them run.
    """
    turns = Turns(links, len(arrival_s))
    made: dict[int, Send] = {}

    async def make(numbers: Sequence[int]) -> None:
        for number in numbers:
            if turns.waits(number) and number not in made:
                made[number] = ready(number)
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        def plan(due: Sequence[tuple[int, int]]) -> None:
            for due_ps, number in due:
                group.create_task(send_at(due_ps, number))

        async def send_at(due_ps: int, number: int) -> None:
            due_s = start_s + due_ps / PS_PER_S
            while (wait_s := due_s - clock()) > 0:
                await sleep(wait_s)
            send = made.pop(number, None) or ready(number)
            following = turns.following(number)
            plan(turns.sent(number, due_ps))
            if following:
                group.create_task(make(following))
            await _one(take, number, due_s, send)
            plan(turns.ended(number, to_ps(clock() - start_s)))

        plan([(to_ps(at_s), number) for number, at_s in enumerate(arrival_s)
              if not turns.waits(number)])


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
