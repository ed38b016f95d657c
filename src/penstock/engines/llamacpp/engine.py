"""Drives an executor by Penstock's scheduler: plan, compute in a thread, commit, repeat."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan
from penstock.core.units import to_ps
from penstock.engines.beside import is_set_within
from penstock.engines.embedded.scheduler import EmbeddedScheduler
from penstock.engines.llamacpp.executor import PlanExecutor
from penstock.engines.server.live import LiveRequest, LiveRequests
from penstock.engines.server.stream import TokenStream

if TYPE_CHECKING:
    from penstock.engines.server.metrics import EngineMetrics

_LOOK_AGAIN_S = 0.05  # poll interval while requests wait although nothing runs


class GenerationInput(NamedTuple):
    """A prompt and its sampling parameters. ``ends`` says which tokens end an answer."""

    token_ids: tuple[int, ...]
    temperature: float
    seed: int
    ends: Callable[[int], bool]


@dataclass(slots=True, kw_only=True)
class _Live(LiveRequest):
    generation: GenerationInput


class SteppedEngine(LiveRequests[_Live]):
    """Serves requests on one executor. ``run`` must be running for anything to happen.

    Calls of clients during a step are processed when it has ended.
    """

    def __init__(self, driver: EmbeddedScheduler, executor: PlanExecutor,
                 metrics: "EngineMetrics | None" = None) -> None:
        super().__init__(metrics)
        self.driver = driver
        self._executor = executor

    async def submit(self, request: Request, generation: GenerationInput) -> TokenStream:
        """Submit a request now. Its ``arrival_s`` becomes the present. Raises RefusedError."""
        request = request._replace(arrival_s=self.driver.now_s())
        live = _Live(request=request, stream=TokenStream(), generation=generation)
        return await self._submit(live, to_ps(request.arrival_s))

    def _now_ps(self) -> int:
        return to_ps(self.driver.now_s())

    def _add(self, live: _Live, now_ps: int) -> Accept | Reject:
        answer = self.driver.add(live.request)
        if isinstance(answer, Accept):
            generation = live.generation
            self._executor.begin(live.request.request_id, generation.token_ids,
                                 generation.temperature, generation.seed)
        return answer

    def _abort(self, request_id: int, now_ps: int) -> None:
        self.driver.abort(request_id)
        self._executor.end(request_id)

    # -- steps ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            while True:
                while self._calls:
                    self._hear(self._calls.popleft())
                plan = self._plan()
                if plan is None:
                    await self._wait()
                    continue
                step = asyncio.create_task(asyncio.to_thread(self._executor.run, plan))
                try:
                    tokens = await asyncio.shield(step)
                except asyncio.CancelledError:
                    await step  # the thread uses the device's memory until it is done
                    raise
                self._commit(plan, tokens)
        finally:
            self.close("the engine has stopped")

    async def _wait(self) -> None:
        self._woken.clear()
        if self._calls:
            return
        waits = self.driver.scheduler.has_work()
        await is_set_within(self._woken, _LOOK_AGAIN_S if waits else None)

    def _plan(self) -> StepPlan | None:
        plan = self.driver.plan()
        preempted = self.driver.take_preempted()
        for request_id in preempted:
            self._executor.preempt(request_id)
        self._preempted(preempted)
        for request_id, reason in self.driver.take_shed():
            self._refuse(request_id, reason, "error")
            self._executor.end(request_id)
        if plan:
            self._planned(plan, self.driver.now_s())
        return plan

    def _commit(self, plan: StepPlan, tokens: dict[int, int]) -> None:
        now_s = self.driver.now_s()
        finished = tuple([request_id for request_id, token in tokens.items()
                          if self._give_token(request_id, token, now_s)])
        self.driver.commit(plan, finished)

    def _give_token(self, request_id: int, token_id: int, now_s: float) -> bool:
        """Give a request a token and return whether it was the last."""
        live = self._live[request_id]
        reason = None
        if live.generation.ends(token_id):
            reason = "stop"
        elif live.num_tokens + 1 == live.request.max_tokens:
            reason = "length"
        self._give(live, reason, now_s, token_id)
        if reason is not None:
            self._executor.end(request_id)
        return reason is not None
