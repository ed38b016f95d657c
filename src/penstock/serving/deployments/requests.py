"""Requests of deployments that wait for their turn, run, and may be called off."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import count

from penstock.serving.deployments.deployments import Deployment, RefusedError
from penstock.serving.deployments.engines import Reply
from penstock.serving.deployments.line import Line, Ticket


class Requests:
    """The requests that are under way. One object belongs to one event loop."""

    def __init__(self, line: Line, clock: Callable[[], float]) -> None:
        self._line = line
        self._clock = clock
        self._numbers = count()
        self._turns: dict[int, asyncio.Future[None]] = {}
        self._tasks: defaultdict[str, set[asyncio.Task[Reply]]] = defaultdict(set)

    def of(self, name: str) -> tuple[int, int]:
        """How many of a deployment wait, and how many run."""
        return self._line.of(name)

    async def run(self, one: Deployment, work: Callable[[], Awaitable[Reply]], *,
                  head: bool) -> Reply:
        """The reply of ``work``, which is begun when it is this request's turn.

        Raises RefusedError where the request was called off; if its caller is cancelled, so is it.
        """
        task = asyncio.create_task(self._turn(one, work, head=head))
        self._tasks[one.name].add(task)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise RefusedError("cancelled", f"the request was called off, with all others of "
                                            f"{one.name}") from None
        finally:
            self._tasks[one.name].discard(task)

    def call_off(self, name: str) -> None:
        """Cancel every request of a deployment."""
        for task in self._tasks[name]:
            task.cancel()

    async def drained(self, name: str) -> None:
        """Comes back once a deployment has no request any more."""
        while tasks := self._tasks[name]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # their callers forget them

    async def _turn(self, one: Deployment, work: Callable[[], Awaitable[Reply]], *,
                    head: bool) -> Reply:
        slots = one.wish.batch if one.wish is not None else 1
        ticket = Ticket(next(self._numbers), one.name, frozenset(one.devices), slots,
                        self._clock())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns[ticket.number] = turn
        self._line.add(ticket, head=head)
        try:
            self._call()
            await turn
            return await work()
        finally:
            del self._turns[ticket.number]
            self._line.ended(ticket.number)
            self._call()

    def _call(self) -> None:
        """Tell everybody whose turn it is."""
        while (ticket := self._line.next(self._clock())) is not None:
            turn = self._turns[ticket.number]
            if not turn.done():
                turn.set_result(None)
