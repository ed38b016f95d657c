"""Laws that hold for every policy, whatever the traffic, the device and the clients do.

A case runs once, with its books audited after every step. Every law is checked on that run.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.step import StepPlan, StepResult
from penstock.policy.kv.protocol import KvAllocator
from penstock.policy.schedule.options import PRESETS
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from support.reference_driver import Trace
from support.scaled_examples import examples
from support.scheduler_runs import make_kv, step_by_step
from support.strategies import Case, cases


def presets(chunking: str) -> tuple[str, ...]:
    return tuple(name for name, options in PRESETS.items() if options.chunking == chunking)


@dataclass(slots=True)
class Run:
    """A run, and the scheduler as its driver saw it: every call passes through here."""

    case: Case
    kv: KvAllocator
    scheduler: ReplicaScheduler
    trace: Trace = field(default_factory=Trace)
    plans_and_commits: list[tuple[str, StepPlan]] = field(default_factory=list)
    most_running: int = 0

    def add(self, request: Request, now_s: float) -> Accept | Reject:
        return self.scheduler.add(request, now_s)

    def abort(self, request_id: int, now_s: float) -> bool:
        return self.scheduler.abort(request_id, now_s)

    def plan(self, now_s: float) -> StepPlan | None:
        scheduler = self.scheduler
        plan = scheduler.plan(now_s)
        # With nothing in flight, None can only mean that nothing is left to do.
        assert plan is not None or scheduler.in_flight or not scheduler.has_work(), "work idles"
        if plan is not None:
            self.plans_and_commits.append(("plan", plan))
        return plan

    def commit(self, plan: StepPlan, result: StepResult, now_s: float) -> None:
        self.plans_and_commits.append(("commit", plan))
        self.scheduler.commit(plan, result, now_s)
        self.scheduler.check_integrity()
        self.most_running = max(self.most_running, self.scheduler.num_running)


def run_of(case: Case) -> Run:
    kv = make_kv(case)
    run = Run(case, kv, build_scheduler(case.options, case.step_time, kv,
                                        max_in_flight=case.max_in_flight))
    run.trace = step_by_step(case, run)
    return run


def every_request_ends_exactly_once(run: Run) -> None:
    trace, case = run.trace, run.case
    done = {i for i, ends in trace.token_ps.items() if len(ends) == case.output_tokens[i]}
    fates = [done, set(trace.refused), set(trace.shed), trace.aborted]
    assert set().union(*fates) == {request.request_id for request in case.requests}
    assert sum(map(len, fates)) == len(case.requests), fates
    assert not run.scheduler.has_work()
    assert all(reason for reason in (*trace.refused.values(), *trace.shed.values()))


def only_a_request_with_a_deadline_is_shed(run: Run) -> None:
    for request in run.case.requests:
        if request.request_id in run.trace.shed:
            slo = request.service_class.slo
            assert slo.ttft_s is not None or slo.e2e_s is not None, "no deadline to pass"


def nothing_in_flight_is_preempted(run: Run) -> None:
    in_flight: dict[int, set[int]] = {}
    for call, plan in run.plans_and_commits:
        if call == "plan":
            assert not set(plan.preempted) & set().union(*in_flight.values())
            in_flight[plan.step] = set(plan.tokens_by_request)
        else:
            del in_flight[plan.step]


def no_block_and_no_counter_leaks(run: Run) -> None:
    scheduler = run.scheduler
    scheduler.check_integrity()
    assert scheduler.kv_used_tokens == 0
    assert (scheduler.num_waiting, scheduler.num_running, scheduler.in_flight) == (0, 0, 0)
    assert scheduler.pending_prompt_tokens == 0


def nothing_in_the_cache_is_pinned_at_the_end(run: Run) -> None:
    # All of the KV cache can be booked again, cached prefixes included.
    total_blocks = run.case.total_blocks
    tokens = total_blocks * run.case.block_tokens
    assert run.kv.free_blocks == total_blocks
    assert run.kv.allocate(-1, tokens, tokens, (), 0, 0) == 0
    run.kv.check_integrity(total_blocks)


def tokens_come_after_their_causes(run: Run) -> None:
    for request in run.case.requests:
        ends = run.trace.token_ps.get(request.request_id, [])
        assert all(earlier < later for earlier, later in pairwise(ends))
        if ends:
            scheduled_ps = run.trace.first_scheduled_ps[request.request_id]
            assert round(request.arrival_s * 1e12) <= scheduled_ps < ends[0]


def prompts_are_computed_once_in_order_and_before_decoding(run: Run) -> None:
    case = run.case
    expected: dict[int, int] = {}  # how far the prompt is; absent once it decodes
    generated: dict[int, int] = {}
    decoding: set[int] = set()
    prompts = {request.request_id: request.prompt_tokens for request in case.requests}
    for plan in run.trace.plans:
        for request_id in plan.preempted:
            decoding.discard(request_id)
            expected.pop(request_id, None)
        assert decoding.issuperset(plan.decode_ids)
        for request_id in plan.decode_ids:
            generated[request_id] += 1
        for chunk in plan.chunks:
            assert chunk.tokens > 0
            assert chunk.request_id not in decoding
            # A start may find a prefix in the cache; what follows must join up without a gap.
            past = expected.get(chunk.request_id, chunk.past)
            assert chunk.past == past
            if chunk.request_id not in expected and not case.prefix_caching:
                assert chunk.past == 0
            expected[chunk.request_id] = past + chunk.tokens
            target = prompts[chunk.request_id] + generated.get(chunk.request_id, 0)
            assert chunk.last == (expected[chunk.request_id] == target)
            if chunk.last:
                decoding.add(chunk.request_id)
                generated[chunk.request_id] = generated.get(chunk.request_id, 0) + 1


def features_sum_up_the_plan(run: Run) -> None:
    for plan in run.trace.plans:
        features = plan.features
        assert features.prefill_tokens == sum(chunk.tokens for chunk in plan.chunks)
        assert features.prefill_attention_work == sum(
            chunk.tokens * (chunk.past + chunk.tokens / 2) for chunk in plan.chunks)
        assert features.decode_seqs == len(plan.decode_ids) == len(set(plan.decode_ids))
        assert plan.num_tokens == sum(plan.tokens_by_request.values())


def decode_context_is_what_each_sequence_holds(run: Run) -> None:
    held = {request.request_id: request.prompt_tokens for request in run.case.requests}
    for plan in run.trace.plans:
        # A decode reads prompt and output so far, its own input token included.
        assert plan.features.decode_context_tokens == sum(held[i] for i in plan.decode_ids)
        for request_id in (*plan.decode_ids, *(c.request_id for c in plan.chunks if c.last)):
            held[request_id] += 1


def no_more_sequences_than_allowed_hold_kv(run: Run) -> None:
    assert run.most_running <= run.case.options.max_num_seqs


def a_fixed_budget_is_kept(run: Run) -> None:
    for plan in run.trace.plans:
        # Decodes come first and are never held back, so they alone may exceed the budget.
        assert plan.num_tokens <= max(run.case.options.chunk_tokens, plan.features.decode_seqs)


def a_solved_budget_is_kept(run: Run) -> None:
    for plan in run.trace.plans:
        assert plan.num_tokens <= max(run.case.options.max_step_tokens, plan.features.decode_seqs)


def niyama_caps_its_decodes(run: Run) -> None:
    cap = run.case.options.max_decodes or len(run.case.requests)
    assert all(plan.features.decode_seqs <= cap for plan in run.trace.plans)


Law = Callable[[Run], None]
LAWS: tuple[Law, ...] = (
    every_request_ends_exactly_once, only_a_request_with_a_deadline_is_shed,
    nothing_in_flight_is_preempted, no_block_and_no_counter_leaks, tokens_come_after_their_causes,
    prompts_are_computed_once_in_order_and_before_decoding, features_sum_up_the_plan,
    decode_context_is_what_each_sequence_holds, no_more_sequences_than_allowed_hold_kv,
    nothing_in_the_cache_is_pinned_at_the_end)
LAWS_OF: dict[str, tuple[Law, ...]] = {
    "whole": (), "fixed": (a_fixed_budget_is_kept,), "grid": (niyama_caps_its_decodes,),
    "solved": (a_solved_budget_is_kept,)}


@pytest.mark.parametrize("chunking", LAWS_OF)
@examples(250)
@given(data=st.data())
def test_laws(chunking: str, data: st.DataObject) -> None:
    run = run_of(data.draw(cases(presets(chunking), aborts=True, max_in_flight=(1, 2))))
    for law in (*LAWS_OF[chunking], *LAWS):
        law(run)


def test_every_policy_has_its_laws() -> None:
    assert {options.chunking for options in PRESETS.values()} == LAWS_OF.keys()


@examples(200)
@given(cases(aborts=True, max_in_flight=(1, 2)))
def test_same_calls_same_run(case: Case) -> None:
    first, second = step_by_step(case), step_by_step(case)
    assert first.plans == second.plans
    assert first.token_ps == second.token_ps
