"""Drives a real engine's steps by Penstock's scheduler, on a real clock.

The part of a driver that engines share: it stamps and journals calls, and learns the durations of
steps.
"""

from collections import deque
from collections.abc import Callable, Collection, Mapping

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.engines.embedded.calibrate import Calibrator
from penstock.journal.journal import Journal
from penstock.policy.schedule.adaptable import AdaptableScheduler


class EmbeddedScheduler:
    """One scheduler, a clock in seconds, and optionally a journal and a calibrator.

    Steps end in the order in which they were planned.
    """

    def __init__(self, scheduler: AdaptableScheduler, clock: Callable[[], float],
                 journal: Journal | None = None, calibrator: Calibrator | None = None) -> None:
        self.scheduler = scheduler
        self.num_amended = 0  # steps that the engine changed
        self._clock = clock
        self._journal = journal
        self._calibrator = calibrator
        self._in_flight: deque[StepPlan] = deque()
        self._planned_s: dict[int, float] = {}
        self._last_commit_s = 0.0
        self._preempted: list[int] = []
        self._shed: list[tuple[int, str]] = []

    def now_s(self) -> float:
        """The present moment."""
        return self._clock()

    def add(self, request: Request) -> Accept | Reject:
        """Submit a request."""
        now_s = self._clock()
        if self._journal:
            self._journal.add(request, now_s)
        return self.scheduler.add(request, now_s)

    def abort(self, request_id: int) -> None:
        """Abort a request."""
        now_s = self._clock()
        if self.scheduler.abort(request_id, now_s) and self._journal:
            self._journal.abort(request_id, now_s)
            self._journal.flush()

    def plan(self) -> StepPlan | None:
        """Plan the next step that computes anything; None while there is none."""
        while True:
            now_s = self._clock()
            plan = self.scheduler.plan(now_s)
            if plan is None:
                return None
            if self._journal:
                self._journal.plan(plan, now_s)
            self._planned_s[plan.step] = now_s
            self._in_flight.append(plan)
            self._preempted += plan.preempted
            self._shed += plan.shed
            if plan.chunks or plan.groups:
                return plan
            self._commit_idle()

    def take_preempted(self) -> list[int]:
        """Return the requests whose KV cache the engine must free before the step that was just
        planned."""
        taken, self._preempted = self._preempted, []
        return taken

    def take_shed(self) -> list[tuple[int, str]]:
        """Return the requests that were shed since the last call, with reasons."""
        taken, self._shed = self._shed, []
        return taken

    def amend(self, plan: StepPlan, ran: Mapping[int, tuple[int, int]],
              lost: Collection[int] = ()) -> StepPlan:
        """Change the latest plan to what the engine ran; see ``AdaptableScheduler.amend``."""
        if self._journal:
            self._journal.amend(plan, ran, lost)
        self.num_amended += 1
        amended = self.scheduler.amend(plan, ran, lost)
        self._in_flight[-1] = amended
        return amended

    def commit(self, plan: StepPlan, finished: tuple[int, ...]) -> None:
        """Commit the oldest step in flight. ``finished`` are the requests that ended with it."""
        assert self._in_flight[0].step == plan.step, "steps end in order"
        now_s = self._clock()
        started_s = max(self._planned_s[plan.step], self._last_commit_s)
        self._commit_first(StepResult(finished), now_s)
        if self._calibrator and plan.num_tokens and now_s > started_s:
            model = self._calibrator.observe(plan.features, now_s - started_s)
            if model is not None:
                self.scheduler.believe(model)
                if self._journal:
                    self._journal.believe(model)
        self._commit_idle()
        if self._journal:
            self._journal.flush()

    def close(self) -> None:
        """Close the journal."""
        if self._journal:
            self._journal.close()

    def _commit_first(self, result: StepResult, now_s: float) -> None:
        plan = self._in_flight.popleft()
        del self._planned_s[plan.step]
        self._last_commit_s = now_s
        self.scheduler.commit(plan, result, now_s)
        if self._journal:
            self._journal.commit(plan, result, now_s)

    def _commit_idle(self) -> None:
        """Commit plans that compute nothing (they changed ranks or freed KV) when they are the
        oldest."""
        while self._in_flight and not (self._in_flight[0].chunks or self._in_flight[0].groups):
            self._commit_first(StepResult(), self._clock())
