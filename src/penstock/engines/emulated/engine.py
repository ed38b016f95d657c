"""One emulated replica: a scheduler driven in real time, with a step-time model for a device.

It takes one step at a time, by a clock on the wall. Calls are stamped when they are made and
taken in order of time together with the ends of steps, so it does not matter when the event loop
comes round to them: a late wake-up delays what a client sees, and neither lengthens a step nor lets
a step know of a request that came after its start.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.decision import Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import PS_PER_S
from penstock.engines.emulated.clock import EngineClock
from penstock.engines.server.stream import RefusedError, Token, TokenStream
from penstock.journal.journal import Journal
from penstock.perf.step_time.clock import StepClock
from penstock.policy.schedule.replica import ReplicaScheduler

if TYPE_CHECKING:
    from penstock.engines.server.metrics import EngineMetrics

_NEVER_PS = 1 << 62
# So many moments are worked off before others on the event loop get their turn.
_AT_ONCE = 32


@dataclass(slots=True)
class _Live:
    """A request that the engine has not finished with; moments in engine time, -1 for not yet."""

    request: Request
    output_tokens: int
    stream: TokenStream
    num_tokens: int = 0
    first_scheduled_ps: int = -1
    last_token_ps: int = -1


class _Call(NamedTuple):
    """Something a client did at a moment: it handed a request in, or (``live`` None) left."""

    moment_ps: int
    request_id: int
    live: _Live | None


class EmulatedEngine:
    """Serves requests on one scheduler. ``run`` must be running for anything to happen.

    ``output_tokens`` of a request is the engine's secret, as an answer's length is a real one's:
    the scheduler sees ``max_tokens`` only.
    """

    def __init__(self, scheduler: ReplicaScheduler, step_clock: StepClock, clock: EngineClock,
                 metrics: "EngineMetrics | None" = None, journal: Journal | None = None) -> None:
        self.scheduler = scheduler
        self.num_steps = 0
        self.lag_s = 0.0  # engine time from the end of a step until the event loop came round to it
        self._step_clock = step_clock
        self._clock = clock
        self._metrics = metrics
        self._journal = journal
        self._calls: deque[_Call] = deque()
        self._live: dict[int, _Live] = {}
        self._plan: StepPlan | None = None
        self._end_ps = _NEVER_PS
        self._woken = asyncio.Event()
        self._closed: str | None = None

    # -- what clients do ------------------------------------------------------------------------

    @property
    def num_live(self) -> int:
        """Requests handed in that have neither ended nor been refused."""
        return len(self._live) + sum(call.live is not None for call in self._calls)

    async def submit(self, request: Request, output_tokens: int) -> TokenStream:
        """Hand a request in now; its ``arrival_s`` becomes the present engine time.

        It ends after ``output_tokens`` tokens, which must be from 1 to its ``max_tokens``. Raises
        RefusedError with the scheduler's reason.
        """
        if self._closed is not None:
            raise RefusedError(self._closed)
        now_ps = self._clock.now_ps()
        live = _Live(request._replace(arrival_s=now_ps / PS_PER_S), output_tokens, TokenStream())
        self._calls.append(_Call(now_ps, request.request_id, live))
        self._woken.set()
        try:
            await live.stream.accepted()
        except asyncio.CancelledError:
            self.cancel(request.request_id)
            raise
        return live.stream

    def cancel(self, request_id: int) -> None:
        """The client left: the request's KV returns. Nothing happens if it has ended already."""
        if request_id in self._live or any(call.request_id == request_id for call in self._calls):
            self._calls.append(_Call(self._clock.now_ps(), request_id, None))
            self._woken.set()

    def close(self, reason: str) -> None:
        """Refuse whatever is under way and whatever comes."""
        self._closed = reason
        for call in self._calls:
            if call.live is not None:
                call.live.stream.refuse(reason)
        for live in self._live.values():
            live.stream.refuse(reason)
        self._calls.clear()

    # -- time -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plan, let time pass, commit, for as long as the task lives."""
        try:
            while True:
                self._woken.clear()
                if self._catch_up(self._clock.now_ps()):
                    await asyncio.sleep(0)  # fast steps must not keep the event loop to themselves
                else:
                    await self._wait()
        finally:
            self.close("the engine has stopped")

    async def _wait(self) -> None:
        """Until the step ends or a client calls."""
        if self._plan is None:
            await self._woken.wait()
            return
        timer = self._clock.call_at(self._end_ps, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    def _catch_up(self, now_ps: int) -> bool:
        """Work off what is due by now in order of time; whether more may be due.

        At a moment, the step that ends is committed first, then clients are heard, then the next
        step is planned: the order of ``engine.sim``.
        """
        if self._end_ps <= now_ps:
            self.lag_s = (now_ps - self._end_ps) / PS_PER_S
        for _ in range(_AT_ONCE):
            called_ps = self._calls[0].moment_ps if self._calls else _NEVER_PS
            moment_ps = min(self._end_ps, called_ps)
            if moment_ps > now_ps:
                return False
            if self._end_ps == moment_ps:
                self._commit(moment_ps)
            while self._calls and self._calls[0].moment_ps == moment_ps:
                self._hear(self._calls.popleft())
            if self._plan is None:
                self._begin(moment_ps)
        return True

    def _hear(self, call: _Call) -> None:
        now_s = call.moment_ps / PS_PER_S
        if call.live is None:
            self._leave(call.request_id, now_s)
            return
        answer = self.scheduler.add(call.live.request, now_s)
        if self._journal:
            self._journal.add(call.live.request, now_s)
        if isinstance(answer, Reject):
            call.live.stream.refuse(answer.reason, final=True)
            return
        self._live[call.request_id] = call.live
        call.live.stream.accept()

    def _leave(self, request_id: int, now_s: float) -> None:
        live = self._live.pop(request_id, None)
        if live is None:
            return
        self.scheduler.abort(request_id, now_s)
        if self._journal:
            self._journal.abort(request_id, now_s)
        live.stream.refuse("the request was cancelled")
        if self._metrics:
            self._metrics.ended("abort")

    # -- steps ----------------------------------------------------------------------------------

    def _begin(self, now_ps: int) -> None:
        """Plan the next step, if there is anything to do."""
        now_s = now_ps / PS_PER_S
        while True:
            plan = self.scheduler.plan(now_s)
            if plan is None:
                return
            if self._journal:
                self._journal.plan(plan, now_s)
            if plan.preempted and self._metrics:
                self._metrics.preempted(len(plan.preempted))
            for request_id, reason in plan.shed:
                self._live.pop(request_id).stream.refuse(reason)
                if self._metrics:
                    self._metrics.ended("error")
            if plan.chunks or plan.groups:
                break
            # It takes no time, but ranks changed or sequences lost their KV.
            self.scheduler.commit(plan, StepResult(), now_s)
            if self._journal:
                self._journal.commit(plan, StepResult(), now_s)
        self._plan = plan
        self._end_ps = now_ps + self._step_clock.duration_ps(plan)
        for chunk in plan.chunks:
            live = self._live[chunk.request_id]
            if live.first_scheduled_ps < 0:
                live.first_scheduled_ps = now_ps

    def _commit(self, now_ps: int) -> None:
        """The step under way ends: every decode and every completed prompt gets a token."""
        plan = self._plan
        assert plan is not None
        ids = [*plan.decode_ids, *(chunk.request_id for chunk in plan.chunks if chunk.last)]
        finished = tuple([request_id for request_id in ids if self._give_token(request_id, now_ps)])
        self._plan, self._end_ps = None, _NEVER_PS
        self.num_steps += 1
        result = StepResult(finished)
        self.scheduler.commit(plan, result, now_ps / PS_PER_S)
        if self._journal:
            self._journal.commit(plan, result, now_ps / PS_PER_S)

    def _give_token(self, request_id: int, now_ps: int) -> bool:
        """Whether it was the request's last one; a client that left gets none."""
        live = self._live.get(request_id)
        if live is None:
            return False
        live.num_tokens += 1
        last = live.num_tokens == live.output_tokens
        reason = None
        if last:
            reason = "length" if live.num_tokens == live.request.max_tokens else "stop"
            del self._live[request_id]
        live.stream.put(Token(live.num_tokens - 1, now_ps / PS_PER_S, reason))
        if self._metrics:
            self._count(self._metrics, live, reason, now_ps)
        live.last_token_ps = now_ps
        return last

    def _count(self, metrics: "EngineMetrics", live: _Live, reason: str | None,
               now_ps: int) -> None:
        arrival_s, now_s = live.request.arrival_s, now_ps / PS_PER_S
        if live.num_tokens == 1:
            metrics.first_token(live.request.prompt_tokens, now_s - arrival_s,
                                live.first_scheduled_ps / PS_PER_S - arrival_s)
        else:
            metrics.next_token((now_ps - live.last_token_ps) / PS_PER_S)
        if reason is not None:
            metrics.ended(reason, now_s - arrival_s)
