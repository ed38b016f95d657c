"""One simulated replica: it runs plans and jumps over steps that cannot change anything."""

from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import PS_PER_S
from penstock.engine.journal import Journal
from penstock.engine.sim.oracle import Oracle
from penstock.engine.sim.recorder import ReplicaRecorder
from penstock.engine.step_clock import StepClock
from penstock.policy.schedule.progress import Progress, progress
from penstock.policy.schedule.replica import ReplicaScheduler


def steps_until(gap_ps: int, duration_ps: int, growth_ps: int, most: int) -> int:
    """The fewest steps, at most ``most``, whose durations d, d+g, d+2g, ... sum to ``gap_ps``."""
    if gap_ps <= duration_ps or most <= 1:
        return 1
    low, high = 1, min(most, gap_ps // duration_ps + 1)
    while low < high:
        middle = (low + high) // 2
        if middle * duration_ps + middle * (middle - 1) // 2 * growth_ps >= gap_ps:
            high = middle
        else:
            low = middle + 1
    return low


class SimReplica:
    """Drives one scheduler against a step-time model and the oracle.

    ``begin`` plans and returns when the replica is next due; ``arrive`` may shorten a jump that is
    under way, at the first step boundary from now; ``finish`` commits.
    """

    def __init__(self, replica_id: int, scheduler: ReplicaScheduler, clock: StepClock,
                 oracle: Oracle, recorder: ReplicaRecorder, journal: Journal | None = None) -> None:
        self.replica_id = replica_id
        self.scheduler = scheduler
        self.requests: dict[int, Request] = {}
        self.recorder = recorder
        self.end_ps = -1  # of the run under way, -1 when idle
        self.shed: list[tuple[Request, str, int]] = []  # with reason and relegations
        self._clock = clock
        self._oracle = oracle
        self._journal = journal
        self._plan: StepPlan | None = None
        self._start_ps = 0
        self._duration_ps = 0
        self._growth_ps = 0
        self._num_steps = 0

    @property
    def busy(self) -> bool:
        """Whether a run of steps is under way."""
        return self._plan is not None

    def arrive(self, request: Request, now_ps: int) -> str | None:
        """Hand a request in at its arrival. Returns the reason if the replica refuses it."""
        now_s = now_ps / PS_PER_S
        answer = self.scheduler.add(request, now_s)
        if self._journal:
            self._journal.add(request, now_s)
        reason = getattr(answer, "reason", None)
        if reason is not None:
            return str(reason)
        self.requests[request.request_id] = request
        if self._plan is not None and self._num_steps > 1:
            self._shorten(now_ps)
        return None

    def _shorten(self, now_ps: int) -> None:
        assert self._plan is not None
        done = steps_until(now_ps - self._start_ps, self._duration_ps, self._growth_ps,
                           self._num_steps)
        if self.scheduler.steady_steps(self._plan) < self._num_steps:
            self._num_steps = done
            self.end_ps = self._end_of(done)

    def _steps_done(self, now_ps: int) -> int:
        """Steps of the run under way that have ended by now."""
        if self._plan is None or now_ps < self._start_ps + self._duration_ps:
            return 0
        done = steps_until(now_ps - self._start_ps, self._duration_ps, self._growth_ps,
                           self._num_steps)
        return done if self._end_of(done) <= now_ps else done - 1

    def load(self, now_ps: int) -> tuple[int, int]:
        """(prompt tokens to compute, KV tokens booked), steps that ended within a run included."""
        scheduler = self.scheduler
        prompt_tokens, kv_tokens = scheduler.pending_prompt_tokens, scheduler.kv_used_tokens
        done = self._steps_done(now_ps) if self._num_steps > 1 else 0
        if done and self._plan is not None:
            for chunk in self._plan.chunks:
                prompt_tokens -= done * chunk.tokens
            for index in self._plan.groups:
                group = scheduler.groups[index]
                kv_tokens += group.growth(done) * group.block_tokens
        return prompt_tokens, kv_tokens

    def progress(self, now_ps: int) -> list[Progress]:
        """Of every live request, steps that ended within a run included."""
        done = self._steps_done(now_ps) if self._num_steps > 1 else 0
        found = progress(self.scheduler)
        if not done or self._plan is None:
            return found
        running = self._plan.groups
        return [one._replace(context_tokens=one.context_tokens + done,
                             output_tokens=one.output_tokens + done)
                if one.group in running else one for one in found]

    def stop(self, now_ps: int) -> None:
        """The whole simulation ends: keep the steps that have ended, drop the rest."""
        done = self._steps_done(now_ps)
        if done:
            self._num_steps = done
            self.end_ps = self._end_of(done)
            self.finish()
        self._plan = None
        self.recorder.cut()

    @property
    def jumping(self) -> bool:
        """Whether a run of more than one step is under way."""
        return self._plan is not None and self._num_steps > 1

    def _end_of(self, num_steps: int) -> int:
        growth_ps = num_steps * (num_steps - 1) // 2 * self._growth_ps
        return self._start_ps + num_steps * self._duration_ps + growth_ps

    def begin(self, now_ps: int) -> bool:
        """Plan the next step and as many copies as cannot matter; False when there is no work."""
        now_s = now_ps / PS_PER_S
        while True:
            plan = self.scheduler.plan(now_s)
            if plan is None:
                self.end_ps = -1
                return False
            if self._journal:
                self._journal.plan(plan, now_s)
            for request_id, reason in plan.shed:
                self._oracle.forget(request_id)
                self.recorder.end(request_id, now_ps)
                self.shed.append((self.requests.pop(request_id), reason,
                                  self.recorder.num_relegations(request_id)))
            if plan.chunks or plan.groups:
                break
            # It took no time, but ranks changed or sequences lost their KV.
            self._oracle.begin(plan)
            self.recorder.run(plan, 0, now_ps, 0, 0, now_ps, (), self.requests)
            self.scheduler.commit(plan, StepResult(), now_s)
            if self._journal:
                self._journal.commit(plan, StepResult(), now_s)
        self._plan = plan
        self._start_ps = now_ps
        self._duration_ps = self._clock.duration_ps(plan)
        until_end = self._oracle.begin(plan)
        self._num_steps = 1
        if self._clock.affine:
            steps = self.scheduler.steady_steps(plan)
            self._num_steps = min(steps, until_end) if until_end else steps
        self._growth_ps = self._clock.growth_ps(plan) if self._num_steps > 1 else 0
        self.end_ps = self._end_of(self._num_steps)
        return True

    def finish(self) -> None:
        """Commit the run that ends now."""
        plan = self._plan
        assert plan is not None
        self._plan = None
        end_ps, steps = self.end_ps, self._num_steps
        finished = self._oracle.settle(plan, steps)
        self.recorder.run(plan, steps, self._start_ps, self._duration_ps, self._growth_ps, end_ps,
                          finished, self.requests)
        result = StepResult(finished, steps)
        now_s = end_ps / PS_PER_S
        self.scheduler.commit(plan, result, now_s)
        if self._journal:
            self._journal.commit(plan, result, now_s)
        for request_id in finished:
            del self.requests[request_id]
        features = plan.features
        scheduler = self.scheduler
        self.recorder.samples.add(end_ps, self._duration_ps, features.prefill_tokens,
                                  features.decode_seqs, scheduler.num_waiting,
                                  scheduler.kv_used_tokens)
