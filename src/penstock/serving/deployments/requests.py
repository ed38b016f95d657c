"""Requests of deployments: they wait in a queue, run, and may be cancelled."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from itertools import count

from penstock.core.errors import InputError, nearest
from penstock.policy.queue.by_set import DeviceSetQueue, Fairness
from penstock.policy.queue.fifo import GlobalFifo
from penstock.policy.queue.protocol import ExclusiveDeviceQueue
from penstock.policy.queue.values import Shared, Start, Waiting
from penstock.serving.deployments.deployments import Deployment, RefusedError
from penstock.serving.deployments.engines import Reply
from penstock.serving.waiting_list import WaitingList

KINDS = ("penstock", "maveriq")
_PATIENCE_S = 2.0


def make_queue(kind: str, patience_s: float = _PATIENCE_S) -> ExclusiveDeviceQueue:
    """Return the queue of that name for accelerators that deployments share. Raises InputError."""
    if kind not in KINDS:
        raise InputError(f"queue: {kind!r} is unknown{nearest(kind, KINDS)}")
    if kind == "maveriq":
        return GlobalFifo([])
    return DeviceSetQueue([], Fairness(patience_s=patience_s))


class RequestQueue:
    """Waiting and running requests. One event loop owns the queue.

    Requests of one deployment run together, up to the batch of its deploy intent.
    """

    def __init__(self, queue: ExclusiveDeviceQueue, clock: Callable[[], float]) -> None:
        self._queue = queue
        self._clock = clock
        self._numbers = count()
        self._indices: dict[tuple[str, frozenset[int], int], int] = {}
        self._num_waiting: Counter[str] = Counter()
        self._num_running: Counter[str] = Counter()
        self._waiting: WaitingList[int, Start] = WaitingList(left=self._left, unused=self._ended)
        self._tasks: defaultdict[str, set[asyncio.Task[Reply]]] = defaultdict(set)

    def of(self, name: str) -> tuple[int, int]:
        """How many requests of a deployment wait, and how many run."""
        return self._num_waiting[name], self._num_running[name]

    async def run(self, one: Deployment, work: Callable[[], Awaitable[Reply]], *,
                  head: bool) -> Reply:
        """Return the reply of ``work``, which begins when the queue starts this request.

        Raises RefusedError where the request was cancelled. Cancelling the caller cancels the
        request.
        """
        task = asyncio.create_task(self._serve(one, work, head=head))
        self._tasks[one.name].add(task)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise RefusedError("cancelled", f"the request was cancelled, with all others of "
                               f"{one.name}") from None
        finally:
            self._tasks[one.name].discard(task)

    def cancel_all(self, name: str) -> None:
        """Cancel every request of a deployment."""
        for task in self._tasks[name]:
            task.cancel()

    async def drained(self, name: str) -> None:
        """Return once a deployment has no requests."""
        while tasks := self._tasks[name]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)  # so that their callers remove them

    async def _serve(self, one: Deployment, work: Callable[[], Awaitable[Reply]], *,
                     head: bool) -> Reply:
        start = await self._start(one, head=head)
        self._num_running[one.name] += 1
        try:
            return await work()
        finally:
            self._num_running[one.name] -= 1
            self._ended(start)

    async def _start(self, one: Deployment, *, head: bool) -> Start:
        """Wait until a request may start. Its devices are then taken."""
        number = next(self._numbers)
        coming = self._waiting.add(number)
        self._queue.add(Waiting(number, self._index(one), self._clock(), ahead=head))
        self._num_waiting[one.name] += 1
        try:
            self._call()
            return await self._waiting.wait(number, coming)
        finally:
            self._num_waiting[one.name] -= 1

    def _index(self, one: Deployment) -> int:
        """Return a deployment's index in the queue. The index is new where its devices have
        changed."""
        slots = one.intent.batch if one.intent is not None else 1
        key = (one.name, frozenset(one.devices), slots)
        if key not in self._indices:
            self._indices[key] = self._queue.deploy(Shared((key[1],), max_batch=slots, joins=True))
        return self._indices[key]

    def _left(self, number: int) -> None:
        self._queue.cancel(number)
        self._call()  # devices may have been reserved for the request

    def _ended(self, start: Start) -> None:
        self._queue.ended(start)
        self._call()

    def _call(self) -> None:
        """Start every request that the queue says may start."""
        while (start := self._queue.next(self._clock())) is not None:
            if not self._waiting.serve(start.request_ids[0], start):
                self._queue.ended(start)
