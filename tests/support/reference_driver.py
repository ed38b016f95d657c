"""The plain driver: one step at a time, one token at a time. It is what the jumps must equal.

It shares the scheduler and the step clock with the fast driver and nothing else: no closed forms,
no turn logs, no heaps of endings. Use it to check, never to measure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.core.decision import Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.core.units import PS_PER_S, to_ps
from penstock.perf.step_time.clock import StepClock
from penstock.policy.kv.tiers import KvTiers
from penstock.policy.schedule.adapters import AdapterStore
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.sim.recorder import Ended


@dataclass(slots=True)
class Trace:
    """Everything observable of a run: token end times (ps) per request, and who did not finish."""

    token_ps: dict[int, list[int]] = field(default_factory=dict)
    first_scheduled_ps: dict[int, int] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    shed: dict[int, str] = field(default_factory=dict)
    aborted: set[int] = field(default_factory=set)
    plans: list[StepPlan] = field(default_factory=list)
    num_wasted_tokens: int = 0
    planned_ps: list[int] = field(default_factory=list)  # when each plan was made
    num_turns: dict[int, int] = field(default_factory=dict)  # that a request decoded in


def run_reference(scheduler: ReplicaScheduler, clock: StepClock, requests: Sequence[Request],
                  output_tokens: Mapping[int, int], max_in_flight: int = 1,
                  aborts: Sequence[tuple[float, int]] = (),
                  on_step: Callable[[StepPlan], None] | None = None,
                  turn_tokens: Callable[[int, int, int], int] | None = None,
                  tiers: KvTiers | None = None, adapters: AdapterStore | None = None) -> Trace:
    """Run sorted ``requests`` on one replica, a step at a time.

    With ``max_in_flight`` 2 a step is planned while the one before still runs. ``aborts`` are
    (time in seconds, request id). ``on_step`` is called after each commit. ``turn_tokens`` has the
    tokens that a turn gives (request id, turn, drafts), one without speculative decoding. A step
    waits for the loads from ``tiers``, those of the scheduler's cache, and for its ``adapters``.
    """
    trace = Trace()
    arrivals = [(to_ps(r.arrival_s), r) for r in requests]
    leaving = sorted((to_ps(time_s), request_id) for time_s, request_id in aborts)
    queue: list[tuple[StepPlan, int]] = []  # (plan, end in ps), in order of execution
    now_ps = 0
    while True:
        moments = [queue[0][1]] if queue else []
        moments += [arrivals[0][0]] if arrivals else []
        moments += [leaving[0][0]] if leaving else []
        if not moments:
            return trace
        now_ps = min(moments)
        if queue and queue[0][1] == now_ps:
            plan, _ = queue.pop(0)
            result = _give_tokens(trace, plan, now_ps, output_tokens, turn_tokens)
            scheduler.commit(plan, result, now_ps / PS_PER_S)
            if on_step is not None:
                on_step(plan)
        while arrivals and arrivals[0][0] <= now_ps:
            _, request = arrivals.pop(0)
            answer = scheduler.add(request, now_ps / PS_PER_S)
            if isinstance(answer, Reject):
                trace.refused[request.request_id] = answer.reason
        while leaving and leaving[0][0] <= now_ps:
            _, request_id = leaving.pop(0)
            if scheduler.abort(request_id, now_ps / PS_PER_S):
                trace.aborted.add(request_id)
        _plan_ahead(scheduler, clock, queue, trace, now_ps, max_in_flight, tiers, adapters)


def _plan_ahead(scheduler: ReplicaScheduler, clock: StepClock, queue: list[tuple[StepPlan, int]],
                trace: Trace, now_ps: int, max_in_flight: int, tiers: KvTiers | None,
                adapters: AdapterStore | None) -> None:
    while len(queue) < max_in_flight:
        plan = scheduler.plan(now_ps / PS_PER_S)
        if plan is None:
            return
        trace.plans.append(plan)
        trace.planned_ps.append(now_ps)
        trace.shed.update(plan.shed)
        if not plan.chunks and not plan.groups and not queue:
            scheduler.commit(plan, StepResult(), now_ps / PS_PER_S)
            continue
        start_ps = queue[-1][1] if queue else now_ps
        idle = not plan.chunks and not plan.groups
        load_ps = 0 if idle or tiers is None else to_ps(tiers.settle())
        load_ps += 0 if idle or adapters is None else adapters.settle() + adapters.step_ps
        queue.append((plan, start_ps + (0 if idle else clock.duration_ps(plan) + load_ps)))
        for request_id in plan.tokens_by_request:
            trace.first_scheduled_ps.setdefault(request_id, start_ps)


def _give_tokens(trace: Trace, plan: StepPlan, now_ps: int,
                 output_tokens: Mapping[int, int],
                 turn_tokens: Callable[[int, int, int], int] | None) -> StepResult:
    """Every decode and every completed prompt of the plan gets a token, unless it has ended. With
    drafts, a decode may get more."""
    finished: list[int] = []
    ids = [*plan.decode_ids, *(chunk.request_id for chunk in plan.chunks if chunk.last)]
    for place, request_id in enumerate(ids):
        num = 1
        if turn_tokens is not None and place < len(plan.decode_ids):
            assert plan.drafted is not None
            turn = trace.num_turns.get(request_id, 0)
            trace.num_turns[request_id] = turn + 1
            num = turn_tokens(request_id, turn, plan.drafted.depth)
        tokens = trace.token_ps.setdefault(request_id, [])
        if len(tokens) >= output_tokens[request_id] or request_id in trace.aborted:
            trace.num_wasted_tokens += 1
            continue
        tokens += [now_ps] * min(num, output_tokens[request_id] - len(tokens))
        if len(tokens) == output_tokens[request_id]:
            finished.append(request_id)
    return StepResult(tuple(finished))


def assert_same_tokens(trace: Trace, ended: Ended) -> None:
    """Assert that every request of a fast run has as many tokens as in single steps, the first and
    the last of them at the same picosecond."""
    for request_id, first_s, last_s, tokens in zip(
            ended.request_id.tolist(), ended.first_token_s.tolist(), ended.last_token_s.tolist(),
            ended.output_tokens.tolist(), strict=True):
        times_ps = trace.token_ps.get(request_id, [])
        assert len(times_ps) == tokens
        if times_ps:
            assert (to_ps(first_s), to_ps(last_s)) == (times_ps[0], times_ps[-1])
