"""Drives an executor by Penstock's scheduler: plan, compute in a thread, commit, again."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.decision import Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.engines.llamacpp.executor import PlanExecutor
from penstock.engines.server.stream import RefusedError, Token, TokenStream

if TYPE_CHECKING:
    from penstock.engines.server.metrics import EngineMetrics

_LOOK_AGAIN_S = 0.05  # where requests wait although nothing runs


class GenerationInput(NamedTuple):
    """How a request's tokens are to be chosen. ``ends`` says which token ends an answer."""

    token_ids: tuple[int, ...]
    temperature: float
    seed: int
    ends: Callable[[int], bool]


@dataclass(slots=True)
class _Live:
    """A request under way; moments in the pilot's seconds, -1 for not yet."""

    request: Request
    generation: GenerationInput
    stream: TokenStream
    num_tokens: int = 0
    first_scheduled_s: float = -1.0
    last_token_s: float = -1.0


class SteppedEngine:
    """Serves requests on one executor. ``run`` must be running for anything to happen.

    What clients do while a step is computed is heard when it has ended.
    """

    def __init__(self, driver: EmbeddedScheduler, executor: PlanExecutor,
                 metrics: "EngineMetrics | None" = None) -> None:
        self.driver = driver
        self.num_steps = 0
        self._executor = executor
        self._metrics = metrics
        self._calls: deque[tuple[int, _Live | None]] = deque()
        self._live: dict[int, _Live] = {}
        self._woken = asyncio.Event()
        self._closed: str | None = None

    # -- what clients do ------------------------------------------------------------------------

    @property
    def num_live(self) -> int:
        """Requests handed in that have neither ended nor been refused."""
        return len(self._live) + sum(live is not None for _, live in self._calls)

    async def submit(self, request: Request, generation: GenerationInput) -> TokenStream:
        """Hand a request in now; its ``arrival_s`` becomes the present. Raises RefusedError."""
        if self._closed is not None:
            raise RefusedError(self._closed)
        live = _Live(request._replace(arrival_s=self.driver.now_s()), generation, TokenStream())
        self._call(request.request_id, live)
        try:
            await live.stream.accepted()
        except asyncio.CancelledError:
            self.cancel(request.request_id)
            raise
        return live.stream

    def cancel(self, request_id: int) -> None:
        """The client left: the request's KV returns. Nothing happens if it has ended already."""
        if request_id in self._live or any(called == request_id for called, _ in self._calls):
            self._call(request_id, None)

    def _call(self, request_id: int, live: _Live | None) -> None:
        self._calls.append((request_id, live))
        self._woken.set()

    def close(self, reason: str) -> None:
        """Refuse whatever is under way and whatever comes."""
        self._closed = reason
        for live in [*self._live.values(), *(live for _, live in self._calls if live is not None)]:
            live.stream.refuse(reason)
        self._calls.clear()
        self._live.clear()

    # -- steps ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve for as long as the task lives."""
        try:
            while True:
                self._hear()
                plan = self._plan()
                if plan is None:
                    await self._wait()
                    continue
                step = asyncio.create_task(asyncio.to_thread(self._executor.run, plan))
                try:
                    tokens = await asyncio.shield(step)
                except asyncio.CancelledError:
                    await step  # the thread has the device's memory in hand until it is done
                    raise
                self._commit(plan, tokens)
        finally:
            self.close("the engine has stopped")

    async def _wait(self) -> None:
        self._woken.clear()
        if self._calls:
            return
        waits = self.driver.scheduler.has_work()
        try:
            await asyncio.wait_for(self._woken.wait(), _LOOK_AGAIN_S if waits else None)
        except TimeoutError:
            return

    def _hear(self) -> None:
        while self._calls:
            request_id, live = self._calls.popleft()
            if live is None:
                self._leave(request_id)
                continue
            answer = self.driver.add(live.request)
            if isinstance(answer, Reject):
                live.stream.refuse(answer.reason, final=True)
                continue
            generation = live.generation
            self._executor.begin(request_id, generation.token_ids, generation.temperature,
                                 generation.seed)
            self._live[request_id] = live
            live.stream.accept()

    def _leave(self, request_id: int) -> None:
        live = self._live.pop(request_id, None)
        if live is None:
            return
        self.driver.abort(request_id)
        self._executor.end(request_id)
        live.stream.refuse("the request was cancelled")
        if self._metrics:
            self._metrics.ended("abort")

    def _plan(self) -> StepPlan | None:
        plan = self.driver.plan()
        preempted = self.driver.take_preempted()
        for request_id in preempted:
            self._executor.preempt(request_id)
        if preempted and self._metrics:
            self._metrics.preempted(len(preempted))
        for request_id, reason in self.driver.take_shed():
            self._live.pop(request_id).stream.refuse(reason)
            self._executor.end(request_id)
            if self._metrics:
                self._metrics.ended("error")
        now_s = self.driver.now_s()
        for chunk in plan.chunks if plan else ():
            live = self._live[chunk.request_id]
            if live.first_scheduled_s < 0:
                live.first_scheduled_s = now_s
        return plan

    def _commit(self, plan: StepPlan, tokens: dict[int, int]) -> None:
        now_s = self.driver.now_s()
        self.num_steps += 1
        finished = tuple([request_id for request_id, token in tokens.items()
                          if self._give(request_id, token, now_s)])
        self.driver.commit(plan, finished)

    def _give(self, request_id: int, token_id: int, now_s: float) -> bool:
        """Whether this was the request's last token."""
        live = self._live[request_id]
        live.num_tokens += 1
        reason = None
        if live.generation.ends(token_id):
            reason = "stop"
        elif live.num_tokens == live.request.max_tokens:
            reason = "length"
        live.stream.put(Token(live.num_tokens - 1, now_s, reason, token_id))
        if self._metrics:
            self._count(self._metrics, live, reason, now_s)
        live.last_token_s = now_s
        if reason is not None:
            del self._live[request_id]
            self._executor.end(request_id)
        return reason is not None

    def _count(self, metrics: "EngineMetrics", live: _Live, reason: str | None,
               now_s: float) -> None:
        arrival_s = live.request.arrival_s
        if live.num_tokens == 1:
            metrics.first_token(live.request.prompt_tokens, now_s - arrival_s,
                                live.first_scheduled_s - arrival_s)
        else:
            metrics.next_token(now_s - live.last_token_s)
        if reason is not None:
            metrics.ended(reason, now_s - arrival_s)
