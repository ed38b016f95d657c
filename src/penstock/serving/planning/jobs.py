"""Planning jobs: a few at once, each in a process that can be stopped, with a short queue."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import orjson

from penstock.serving.planning.fleet_plan import Order
from penstock.serving.planning.operation import Answer, failure
from penstock.serving.planning.worker import encoded

_FIRST_GUESS_S = 10.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Up to ``num_at_once`` plans are computed while ``num_waiting`` more wait. ``time_limit_s`` is
    for planning, without waiting."""

    num_at_once: int = 2
    num_waiting: int = 8
    time_limit_s: float = 120.0
    memory_mb: int = 4096


class Jobs:
    """Computes plans within limits. One event loop owns the jobs."""

    def __init__(self, limits: Limits, on_bug: Callable[[str], None]) -> None:
        self._limits = limits
        self._on_bug = on_bug
        self._free = asyncio.Semaphore(limits.num_at_once)
        self._num_admitted = 0
        self._typical_s = _FIRST_GUESS_S

    async def answer(self, order: Order) -> Answer:
        """Return the answer to an order, or status 429 at once where the queue is full. Cancelling
        this call (the client disconnects) stops the plan."""
        limits = self._limits
        if self._num_admitted >= limits.num_at_once + limits.num_waiting:
            wait_s = max(1, ceil(self._typical_s * (limits.num_waiting + 1) / limits.num_at_once))
            return failure(429, f"{self._num_admitted} plans are in progress or wait, and this "
                           f"server takes no more; try again in {wait_s} s",
                           **{"Retry-After": str(wait_s)})
        self._num_admitted += 1
        try:
            async with self._free:
                return await self._worked(order)
        finally:
            self._num_admitted -= 1

    async def _worked(self, order: Order) -> Answer:
        limits = self._limits
        limit_s = min(order.time_limit_s or limits.time_limit_s, limits.time_limit_s)
        begun_s = asyncio.get_running_loop().time()
        # -P: import nothing from the server's working directory. A session of its own: the server
        # handles Ctrl-C in its terminal.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "penstock.serving.planning.worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, start_new_session=True)
        try:
            printed, complaints = await asyncio.wait_for(
                process.communicate(encoded(order, limits.memory_mb)), limit_s)
        except TimeoutError:
            return failure(504, f"no plan within {limit_s:g} s; expected fewer "
                           "requests, seeds or variants, or a longer time_limit_s")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            self._typical_s += 0.3 * (asyncio.get_running_loop().time() - begun_s - self._typical_s)
        if process.returncode != 0:
            self._on_bug(complaints.decode(errors="replace"))
            return failure(500, "this is a bug in Penstock (a plan's process ended with status "
                                f"{process.returncode}); please report it")
        return Answer(**orjson.loads(printed))
