"""One simulated replica: it runs plans and jumps over steady steps."""

from typing import TYPE_CHECKING, Final

from penstock.core.decision import Reject
from penstock.core.intake import DIRECT, Intake
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import PS_PER_S, to_ps
from penstock.journal.journal import Journal
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.tiers import KvTiers
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.pacing import UNBOUNDED
from penstock.policy.schedule.progress import Progress, progress
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.sim.inbox import Inbox, is_too_long, steps_until
from penstock.sim.kernel import NEVER_PS
from penstock.sim.oracle import Oracle
from penstock.sim.recorder import ReplicaRecorder
from penstock.sim.scaling.meter import GroupMeter

if TYPE_CHECKING:
    from mypy_extensions import i64

FAILED: Final = "the replica failed"
"""Reason of a request whose answer had begun at a replica that failed."""

_NONE: Final[frozenset[str]] = frozenset()


class SimReplica:
    """Drives one scheduler against a step-time model and the oracle.

    ``begin`` plans and sets when the replica is next due. ``arrive`` may shorten a running jump to
    the first step boundary from now. ``finish`` commits.
    """

    def __init__(self, replica_id: int, scheduler: ReplicaScheduler, clock: StepClock,
                 oracle: Oracle, recorder: ReplicaRecorder, journal: Journal | None = None,
                 intake: Intake = DIRECT, tiers: KvTiers | None = None,
                 adapters: AdapterStore | None = None) -> None:
        self.replica_id = replica_id
        self.scheduler = scheduler
        self.requests: dict[int, Request] = {}
        self.recorder = recorder
        self.end_ps = -1  # of the present run, -1 when idle
        self.shed: list[tuple[Request, str, int]] = []  # with reason and relegations
        self.meter: GroupMeter | None = None
        self.adapters = adapters
        self.fetched: list[int] = []  # requests from another replica that began in the latest plan
        self._remote: set[int] = set()  # those that have not begun
        self._clock = clock
        self._oracle = oracle
        self._journal = journal
        self._tiers = tiers
        self._inbox = None if intake.immediate else Inbox(intake)
        self._plan: StepPlan | None = None
        self._start_ps: i64 = 0
        self._duration_ps: i64 = 0
        self._growth_ps: i64 = 0
        self._num_steps = 0

    @property
    def due_ps(self) -> int:
        """When the present run ends, or the first request reaches an idle scheduler."""
        if self._plan is not None:
            return self.end_ps
        return NEVER_PS if self._inbox is None else self._inbox.ready_ps

    @property
    def num_waiting(self) -> int:
        """Number of requests that have not begun, those included that the scheduler has not read
        yet."""
        return self.scheduler.num_waiting + (0 if self._inbox is None else len(self._inbox))

    @property
    def inflight_tokens(self) -> int:
        """Prompt tokens of the requests here whose first token has not come."""
        unanswered = sum([request.prompt_tokens for request_id, request in self.requests.items()
                          if not self.recorder.has_token(request_id)])
        return unanswered + (0 if self._inbox is None else self._inbox.prompt_tokens)

    def coming_adapters(self) -> frozenset[str]:
        """Return the adapters of the requests that the scheduler has not read yet."""
        if self._inbox is None or not len(self._inbox):
            return _NONE
        return frozenset([one.adapter for one in self._inbox.requests() if one.adapter])

    @property
    def idle(self) -> bool:
        """Whether no request is here, the unread ones included."""
        return not self.requests and (self._inbox is None or not len(self._inbox))

    def renew(self, scheduler: ReplicaScheduler, journal: Journal | None,
              tiers: KvTiers | None = None, adapters: AdapterStore | None = None) -> None:
        """Take a fresh engine in the place of one that has stopped."""
        self._tiers = tiers
        self.adapters = adapters
        self.scheduler = scheduler
        self._journal = journal

    @property
    def busy(self) -> bool:
        """Whether a run of steps is in progress."""
        return self._plan is not None

    def arrive(self, request: Request, now_ps: int) -> str | None:
        """Add a request at its arrival. Returns the reason if the replica rejects it at once. A
        request that lends its KV cache ends with its first token."""
        if request.lends:
            self._oracle.limit(request.request_id, 1)
        if request.remote_tokens:
            self._remote.add(request.request_id)
        if self._inbox is None:
            return self._add(request, now_ps)
        self._inbox.add(request, now_ps)
        if self._plan is not None and self._num_steps > 1:
            self._num_steps = self._steps_to_read(self._inbox)
            self.end_ps = self._end_of(self._num_steps)
        return None

    def _steps_to_read(self, inbox: Inbox) -> int:
        assert self._plan is not None
        return inbox.steps_to_read(self._start_ps, self._duration_ps, self._growth_ps,
                                   bool(self._plan.chunks), self._num_steps)

    def _read(self, requests: list[Request], now_ps: int) -> None:
        """Give the scheduler the requests that it reads now."""
        for request in requests:
            reason = self._add(request, now_ps)
            if reason is not None:
                self.shed.append((request, reason, 0))

    def _add(self, request: Request, now_ps: int) -> str | None:
        now_s = now_ps / PS_PER_S
        answer = self.scheduler.add(request, now_s)
        if self._journal:
            self._journal.add(request, now_s)
        if isinstance(answer, Reject):
            return answer.reason
        self.requests[request.request_id] = request
        if self._plan is not None and self._num_steps > 1:
            self._shorten(now_ps)
        return None

    def returned(self, request_id: int, now_ps: int) -> None:
        """Free the KV cache of a request that another replica has begun."""
        if self.scheduler.returned(request_id):
            if self._journal:
                self._journal.returned(request_id, now_ps / PS_PER_S)
            self.give_way(now_ps)  # more room may change the next plan

    def _shorten(self, now_ps: int) -> None:
        assert self._plan is not None
        if self.scheduler.steady_steps(self._plan) < self._num_steps:
            self.give_way(now_ps)

    def give_way(self, now_ps: int) -> None:
        """End the present run with the step that runs now."""
        if self._plan is not None and self._num_steps > 1:
            self._num_steps = steps_until(now_ps - self._start_ps, self._duration_ps,
                                          self._growth_ps, self._num_steps)
            self.end_ps = self._end_of(self._num_steps)

    def _steps_done(self, now_ps: int) -> int:
        """Return the steps of the present run that have ended by now."""
        if self._plan is None or now_ps < self._start_ps + self._duration_ps:
            return 0
        done = steps_until(now_ps - self._start_ps, self._duration_ps, self._growth_ps,
                           self._num_steps)
        return done if self._end_of(done) <= now_ps else done - 1

    def load(self, now_ps: int) -> tuple[int, int, int, int]:
        """Return (prompt tokens to compute, KV tokens booked, tokens generated by live decodes,
        until when that holds), including steps that have ended within a run. NEVER_PS means until
        the replica changes."""
        scheduler = self.scheduler
        generated = 0
        for group in scheduler.groups:
            generated += group.generated_tokens
        prompt_tokens, kv_tokens = scheduler.pending_prompt_tokens, scheduler.kv_used_tokens
        if self._inbox is not None:
            prompt_tokens += self._inbox.prompt_tokens
        if self._plan is None or self._num_steps == 1:
            return prompt_tokens, kv_tokens, generated, NEVER_PS
        done = self._steps_done(now_ps)
        if done:
            kv_tokens += scheduler.more_kv_tokens(self._plan, done)
            for chunk in self._plan.chunks:
                prompt_tokens -= done * chunk.tokens
            for index in self._plan.groups:
                group = scheduler.groups[index]
                generated += group.gained(done) * len(group)
        return prompt_tokens, kv_tokens, generated, self._end_of(done + 1)

    def progress(self, now_ps: int) -> list[Progress]:
        """Return the progress of every live request, including steps that have ended within a
        run."""
        done = self._steps_done(now_ps) if self._num_steps > 1 else 0
        found = progress(self.scheduler)
        if self._inbox is not None:
            found += [Progress(request.request_id, request.prompt_tokens, 0, 0, -1)
                      for request in self._inbox.requests()]
        if not done or self._plan is None:
            return found
        gained = {index: self.scheduler.groups[index].gained(done) for index in self._plan.groups}
        prompts = {chunk.request_id: done * chunk.tokens for chunk in self._plan.chunks}
        return [one._replace(context_tokens=one.context_tokens + gained[one.group],
                             output_tokens=one.output_tokens + gained[one.group])
                if one.group in gained else
                one._replace(prompt_tokens_left=one.prompt_tokens_left - prompts[one.request_id],
                             context_tokens=one.context_tokens + prompts[one.request_id])
                if one.request_id in prompts else one for one in found]

    def stop(self, now_ps: int) -> None:
        """End the simulation: keep the steps that have ended, drop the rest."""
        self._halt(now_ps)
        self.recorder.cut()

    def _halt(self, now_ps: int) -> tuple[int, ...]:
        """Keep the steps that have ended and drop the rest. Returns the requests that ended."""
        done = self._steps_done(now_ps)
        finished: tuple[int, ...] = ()
        if done:
            self._num_steps = done
            self.end_ps = self._end_of(done)
            finished = self.finish()
        self._plan = None
        return finished

    def fail(self, now_ps: int) -> tuple[tuple[int, ...], list[Request]]:
        """Lose the engine at once. Returns the requests that had ended, and those that can be sent
        again because no token of theirs has left. The others are shed."""
        finished = self._halt(now_ps)
        again: list[Request] = [] if self._inbox is None else self._inbox.empty()
        for request_id, request in list(self.requests.items()):
            self._oracle.forget(request_id)
            if self.recorder.has_token(request_id):
                self.recorder.end(request_id, now_ps)
                self.shed.append((request, FAILED, self.recorder.num_relegations(request_id)))
            else:
                self.recorder.drop(request_id)
                again.append(request)
        self.requests.clear()
        self._remote.clear()
        self.end_ps = -1
        return finished, again

    def _end_of(self, num_steps: int) -> int:
        if num_steps == 1:
            return self._start_ps + self._duration_ps
        steps: i64 = num_steps
        growth_ps = (steps * (steps - 1) >> 1) * self._growth_ps
        return self._start_ps + steps * self._duration_ps + growth_ps

    def _wake(self, now_ps: int) -> bool:
        """Let the idle scheduler read new requests. Returns whether there were any."""
        found = [] if self._inbox is None else self._inbox.when_idle(now_ps)
        self._read(found, now_ps)
        return bool(found)

    def begin(self, now_ps: int, most_steps: int = UNBOUNDED) -> bool:
        """Plan the next step with all its steady copies, at most ``most_steps`` in all. Returns
        False when there is no work."""
        now_s = now_ps / PS_PER_S
        while True:
            plan = self.scheduler.plan(now_s)
            if plan is None:
                if self._wake(now_ps):
                    continue
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
            # The plan takes no time: it changed ranks, or sequences lost their KV cache.
            self._oracle.begin(plan)
            self.recorder.run(plan, 0, now_ps, 0, 0, now_ps, (), self.requests)
            self.scheduler.commit(plan, StepResult(), now_s)
            if self._journal:
                self._journal.commit(plan, StepResult(), now_s)
        self._plan = plan
        self._start_ps = now_ps
        self._duration_ps = self._clock.duration_ps(plan)
        # The step waits for the blocks that its prompts take from lower tiers, and for adapters.
        load_ps = 0 if self._tiers is None else to_ps(self._tiers.settle())
        if self.adapters is not None:
            self._duration_ps += self.adapters.step_ps
            load_ps += self.adapters.settle()
        self._duration_ps += load_ps
        until_end = self._oracle.begin(plan)
        self._num_steps, self._growth_ps = 1, 0
        if self._clock.affine and not load_ps:
            steps = min(most_steps, self.scheduler.steady_steps(plan))
            self._repeat(plan, min(steps, until_end) if until_end else steps)
        if self._inbox is not None and self._num_steps > 1:
            self._num_steps = self._steps_to_read(self._inbox)
        self.end_ps = self._end_of(self._num_steps)
        if self._remote:
            self.fetched += [chunk.request_id for chunk in plan.chunks
                             if chunk.request_id in self._remote]
            self._remote.difference_update(self.fetched)
        return True

    def _repeat(self, plan: StepPlan, num_steps: int) -> None:
        """Let the present run have so many steps."""
        if num_steps == 1:
            return
        growth_ps = self._clock.growth_ps(plan)
        if not is_too_long(num_steps, self._duration_ps, growth_ps):
            self._num_steps = num_steps
            self._growth_ps = growth_ps

    def finish(self) -> tuple[int, ...]:
        """Commit the run that ends now. Returns the requests that end with it."""
        plan = self._plan
        assert plan is not None
        self._plan = None
        end_ps, steps = self.end_ps, self._num_steps
        finished = self._oracle.settle(plan, steps)
        if self.meter is not None:
            self._count(self.meter, plan, steps)
        num_ended = self.recorder.num_ended
        self.recorder.run(plan, steps, self._start_ps, self._duration_ps, self._growth_ps, end_ps,
                          finished, self.requests)
        if self.meter is not None:
            for request, tokens, first_ps, last_ps in self.recorder.ended_since(num_ended):
                self.meter.finished(request, tokens, first_ps, last_ps)
        result = StepResult(finished, steps)
        now_s = end_ps / PS_PER_S
        self.scheduler.commit(plan, result, now_s)
        if self._journal:
            self._journal.commit(plan, result, now_s)
        for request_id in finished:
            del self.requests[request_id]
        if self.recorder.samples.due(end_ps):
            prefill_tokens, _, decode_seqs, _ = plan.numbers
            self.recorder.samples.add(end_ps, self._duration_ps, prefill_tokens, decode_seqs,
                                      self.scheduler.num_waiting, self.scheduler.kv_used_tokens)
        if self._inbox is not None:
            self._read(self._inbox.after_steps(steps, bool(plan.chunks), self._end_of(steps - 1),
                                               end_ps), end_ps)
        return finished

    def _count(self, meter: GroupMeter, plan: StepPlan, steps: int) -> None:
        """Count the tokens of a run that has ended and is not recorded yet."""
        meter.ran(plan, steps, self._duration_ps, self._growth_ps)
        for chunk in plan.chunks:
            if chunk.past and not self.recorder.has_begun(chunk.request_id):
                meter.cached(chunk.past)
            if chunk.last and not self.recorder.has_token(chunk.request_id):
                meter.first_token(self.requests[chunk.request_id], self.end_ps)
