"""One emulated replica: a scheduler driven in real time, with a step-time model for a device.

The engine runs one step at a time on a wall clock. Calls are stamped when they are made and
processed in order of time together with the ends of steps. So the delay of the event loop does not
matter: a late wake-up delays what a client sees, but it neither lengthens a step nor lets a step
include a request that arrived after its start.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import PS_PER_S
from penstock.engines.emulated.clock import EngineClock
from penstock.engines.server.live import LiveRequest, LiveRequests
from penstock.engines.server.stream import TokenStream
from penstock.journal.journal import Journal
from penstock.perf.step_time.clock import StepClock
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.replica import ReplicaScheduler

if TYPE_CHECKING:
    from penstock.engines.server.metrics import EngineMetrics

_NEVER_PS = 1 << 62
# Events that are processed before other tasks of the event loop may run.
_AT_ONCE = 32


@dataclass(slots=True, kw_only=True)
class _Live(LiveRequest):
    output_tokens: int


class EmulatedEngine(LiveRequests[_Live]):
    """Serves requests on one scheduler. ``run`` must be running for anything to happen.

    A request's ``output_tokens`` are hidden from the scheduler, like the length of a real answer:
    it sees only ``max_tokens``. ``adapters`` are those of the scheduler, None where it knows none;
    a step waits for the loads of those that it starts.
    """

    def __init__(self, scheduler: ReplicaScheduler, step_clock: StepClock, clock: EngineClock,
                 metrics: "EngineMetrics | None" = None, journal: Journal | None = None,
                 stepped: Callable[[], None] | None = None,
                 adapters: AdapterStore | None = None) -> None:
        super().__init__(metrics)
        self.scheduler = scheduler
        self.lag_s = 0.0  # engine time from the end of a step until the event loop processed it
        self._step_clock = step_clock
        self._clock = clock
        self._journal = journal
        self._stepped = stepped  # called after every change of the scheduler's books
        self._adapters = adapters
        self._plan: StepPlan | None = None
        self._end_ps = _NEVER_PS

    async def submit(self, request: Request, output_tokens: int) -> TokenStream:
        """Submit a request now. Its ``arrival_s`` becomes the present engine time.

        It ends after ``output_tokens`` tokens, which must be from 1 to its ``max_tokens``. Raises
        RefusedError with the scheduler's reason.
        """
        now_ps = self._now_ps()
        return await self._submit(_Live(
            request=request._replace(arrival_s=now_ps / PS_PER_S), stream=TokenStream(),
            output_tokens=output_tokens), now_ps)

    def returned(self, request_id: int) -> None:
        """Free the KV cache that an ended request lent to another engine."""
        if self.scheduler.returned(request_id):
            if self._journal:
                self._journal.returned(request_id, self._now_ps() / PS_PER_S)
            self._woken.set()

    def _now_ps(self) -> int:
        return self._clock.now_ps()

    def _add(self, live: _Live, now_ps: int) -> Accept | Reject:
        answer = self.scheduler.add(live.request, now_ps / PS_PER_S)
        if self._journal:
            self._journal.add(live.request, now_ps / PS_PER_S)
        return answer

    def _abort(self, request_id: int, now_ps: int) -> None:
        self.scheduler.abort(request_id, now_ps / PS_PER_S)
        if self._journal:
            self._journal.abort(request_id, now_ps / PS_PER_S)

    # -- time -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Plan, wait, commit, until cancelled."""
        try:
            while True:
                self._woken.clear()
                if self._catch_up(self._now_ps()):
                    await asyncio.sleep(0)  # fast steps must not block the event loop
                else:
                    await self._wait()
        finally:
            self.close("the engine has stopped")

    async def _wait(self) -> None:
        """Wait until the step ends or a client calls."""
        if self._plan is None:
            await self._woken.wait()
            return
        timer = self._clock.call_at(self._end_ps, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    def _catch_up(self, now_ps: int) -> bool:
        """Process all events due by now, in order of time. Returns whether more may be due.

        At one instant, the ending step is committed first, then calls are processed, then the next
        step is planned, in the order of the simulator.
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

    # -- steps ----------------------------------------------------------------------------------

    def _begin(self, now_ps: int) -> None:
        """Plan the next step, if there is work."""
        now_s = now_ps / PS_PER_S
        while True:
            plan = self.scheduler.plan(now_s)
            if plan is None:
                return
            if self._journal:
                self._journal.plan(plan, now_s)
            self._preempted(plan.preempted)
            for request_id, reason in plan.shed:
                self._refuse(request_id, reason, "error")
            if plan.chunks or plan.groups:
                break
            # The plan takes no time: it changed ranks, or sequences lost their KV cache.
            self.scheduler.commit(plan, StepResult(), now_s)
            if self._journal:
                self._journal.commit(plan, StepResult(), now_s)
        self._plan = plan
        if self._stepped:
            self._stepped()
        self._end_ps = now_ps + self._step_clock.duration_ps(plan)
        if self._adapters is not None:
            self._end_ps += self._adapters.step_ps + self._adapters.settle()
        self._planned(plan, now_s)

    def _commit(self, now_ps: int) -> None:
        """End the running step: every decode and every completed prompt gets a token."""
        plan = self._plan
        assert plan is not None
        now_s = now_ps / PS_PER_S
        ids = [*plan.decode_ids, *(chunk.request_id for chunk in plan.chunks if chunk.last)]
        result = StepResult(tuple([request_id for request_id in ids
                                   if self._give_token(request_id, now_s)]))
        self._plan, self._end_ps = None, _NEVER_PS
        self.scheduler.commit(plan, result, now_s)
        if self._stepped:
            self._stepped()
        if self._journal:
            self._journal.commit(plan, result, now_s)

    def _give_token(self, request_id: int, now_s: float) -> bool:
        """Give a request a token and return whether it was the last. A cancelled request gets
        none."""
        live = self._live.get(request_id)
        if live is None:
            return False
        reason = None
        if live.num_tokens + 1 == live.output_tokens:
            reason = "length" if live.output_tokens == live.request.max_tokens else "stop"
        self._give(live, reason, now_s)
        return reason is not None
