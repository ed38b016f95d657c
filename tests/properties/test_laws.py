"""Laws that hold for every policy, whatever the traffic, the device and the clients do."""

from itertools import pairwise

from hypothesis import given, settings

from penstock.core.step import StepPlan
from penstock.policy.schedule.options import PRESETS
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from penstock.sim.reference import Trace
from runs import Journaled, jump, make_kv, make_scheduler, step_by_step
from strategies import Case, cases

ANY = cases(aborts=True, max_in_flight=(1, 2))
FIXED = tuple(name for name, options in PRESETS.items() if options.chunking == "fixed")


def checked(case: Case) -> tuple[Trace, ReplicaScheduler]:
    """A run whose books are audited after every step."""
    scheduler = make_scheduler(case)
    trace = step_by_step(case, scheduler, lambda plan: scheduler.check_integrity())
    return trace, scheduler


@settings(max_examples=400)
@given(ANY)
def test_every_request_ends_exactly_once(case: Case) -> None:
    trace, scheduler = checked(case)
    done = {i for i, ends in trace.token_ps.items() if len(ends) == case.output_tokens[i]}
    fates = [done, set(trace.refused), set(trace.shed), trace.aborted]
    assert set().union(*fates) == {request.request_id for request in case.requests}
    assert sum(map(len, fates)) == len(case.requests), fates
    assert not scheduler.has_work()
    assert all(reason for reason in (*trace.refused.values(), *trace.shed.values()))


@settings(max_examples=250)
@given(cases(("penstock",), max_in_flight=(1, 2)))
def test_penstock_finishes_a_request_or_says_why_not(case: Case) -> None:
    trace, _ = checked(case)
    for request in case.requests:
        given_up = trace.shed.get(request.request_id) or trace.refused.get(request.request_id)
        tokens = len(trace.token_ps.get(request.request_id, ()))
        assert given_up or tokens == case.output_tokens[request.request_id]
        if request.request_id in trace.shed:
            slo = request.service_class.slo
            assert slo.ttft_s is not None or slo.e2e_s is not None, "no deadline to pass"


@settings(max_examples=200)
@given(ANY)
def test_nothing_in_flight_is_preempted(case: Case) -> None:
    scheduler = make_scheduler(case)
    trace = step_by_step(case, journaled := Journaled(case, scheduler))
    in_flight: dict[int, set[int]] = {}
    plans = {plan.step: plan for plan in trace.plans}
    for record in journaled.records:
        if record["kind"] == "plan":
            plan = plans[record["plan"]["step"]]
            assert not set(plan.preempted) & set().union(*in_flight.values())
            in_flight[plan.step] = set(plan.tokens_by_request)
        elif record["kind"] == "commit":
            del in_flight[record["step"]]


@settings(max_examples=250)
@given(ANY)
def test_no_block_and_no_counter_leaks(case: Case) -> None:
    _, scheduler = checked(case)
    scheduler.check_integrity()
    assert scheduler.kv_used_tokens == 0
    assert (scheduler.num_waiting, scheduler.num_running, scheduler.in_flight) == (0, 0, 0)
    assert scheduler.pending_prompt_tokens == 0


@settings(max_examples=250)
@given(ANY)
def test_tokens_come_after_their_causes(case: Case) -> None:
    trace, _ = checked(case)
    for request in case.requests:
        ends = trace.token_ps.get(request.request_id, [])
        assert all(earlier < later for earlier, later in pairwise(ends))
        if ends:
            scheduled_ps = trace.first_scheduled_ps[request.request_id]
            assert round(request.arrival_s * 1e12) <= scheduled_ps < ends[0]


@settings(max_examples=250)
@given(ANY)
def test_prompts_are_computed_once_in_order_and_before_decoding(case: Case) -> None:
    trace, _ = checked(case)
    expected: dict[int, int] = {}  # how far the prompt is; absent once it decodes
    generated: dict[int, int] = {}
    decoding: set[int] = set()
    prompts = {request.request_id: request.prompt_tokens for request in case.requests}
    for plan in trace.plans:
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


@settings(max_examples=250)
@given(ANY)
def test_features_sum_up_the_plan(case: Case) -> None:
    trace, _ = checked(case)
    for plan in trace.plans:
        features = plan.features
        assert features.prefill_tokens == sum(chunk.tokens for chunk in plan.chunks)
        assert features.prefill_attention_work == sum(
            chunk.tokens * (chunk.past + chunk.tokens / 2) for chunk in plan.chunks)
        assert features.decode_seqs == len(plan.decode_ids) == len(set(plan.decode_ids))
        assert plan.num_tokens == sum(plan.tokens_by_request.values())


@settings(max_examples=200)
@given(ANY)
def test_decode_context_is_what_each_sequence_holds(case: Case) -> None:
    trace, _ = checked(case)
    held = {request.request_id: request.prompt_tokens for request in case.requests}
    for plan in trace.plans:
        # A decode reads prompt and output so far, its own input token included.
        assert plan.features.decode_context_tokens == sum(held[i] for i in plan.decode_ids)
        for request_id in (*plan.decode_ids, *(c.request_id for c in plan.chunks if c.last)):
            held[request_id] += 1


@settings(max_examples=250)
@given(cases(FIXED, aborts=True, max_in_flight=(1, 2)))
def test_fixed_budget_is_kept(case: Case) -> None:
    budget = case.options.chunk_tokens
    trace, _ = checked(case)
    for plan in trace.plans:
        # Decodes come first and are never held back, so they alone may exceed the budget.
        assert plan.num_tokens <= max(budget, plan.features.decode_seqs)


@settings(max_examples=200)
@given(cases(("penstock",), aborts=True, max_in_flight=(1, 2)))
def test_solved_budget_is_kept(case: Case) -> None:
    trace, _ = checked(case)
    for plan in trace.plans:
        assert plan.num_tokens <= max(case.options.max_step_tokens, plan.features.decode_seqs)


@settings(max_examples=200)
@given(cases(("niyama",), aborts=True, max_in_flight=(1, 2)))
def test_niyama_caps_its_decodes(case: Case) -> None:
    trace, _ = checked(case)
    cap = case.options.max_decodes or len(case.requests)
    assert all(plan.features.decode_seqs <= cap for plan in trace.plans)


@settings(max_examples=250)
@given(ANY)
def test_no_more_sequences_than_allowed_hold_kv(case: Case) -> None:
    scheduler = make_scheduler(case)
    most = 0

    def note(plan: StepPlan) -> None:
        nonlocal most
        most = max(most, scheduler.num_running)

    step_by_step(case, scheduler, note)
    assert most <= case.options.max_num_seqs


@settings(max_examples=250)
@given(cases(aborts=True))
def test_a_replica_with_work_never_idles(case: Case) -> None:
    scheduler = make_scheduler(case)
    plan_of_scheduler = scheduler.plan

    def plan(now_s: float) -> StepPlan | None:
        planned = plan_of_scheduler(now_s)
        # One step at a time, so None can only mean that nothing is left to do.
        assert planned is not None or scheduler.in_flight or not scheduler.has_work()
        return planned

    class Watched:
        """The scheduler with a checked ``plan``."""

        def __getattr__(self, name: str) -> object:
            return plan if name == "plan" else getattr(scheduler, name)

    step_by_step(case, Watched())


@settings(max_examples=200)
@given(ANY)
def test_same_calls_same_run(case: Case) -> None:
    first, second = step_by_step(case), step_by_step(case)
    assert first.plans == second.plans
    assert first.token_ps == second.token_ps


@settings(max_examples=200)
@given(cases())
def test_jumps_keep_the_books(case: Case) -> None:
    jumps = jump(case)
    jumps.scheduler.check_integrity()
    assert not jumps.scheduler.has_work()
    assert jumps.scheduler.kv_used_tokens == 0
    ended = set(jumps.ended.request_id.tolist())
    everyone = {request.request_id for request in case.requests}
    assert ended | jumps.shed.keys() | jumps.refused.keys() == everyone
    for request_id, tokens in zip(jumps.ended.request_id, jumps.ended.output_tokens, strict=True):
        if request_id not in jumps.shed:
            assert tokens == case.output_tokens[request_id]


@settings(max_examples=200)
@given(ANY)
def test_nothing_in_the_cache_is_pinned_at_the_end(case: Case) -> None:
    kv = make_kv(case)
    step_by_step(case, build_scheduler(case.options, case.step_time, kv,
                                       max_in_flight=case.max_in_flight))
    # All of the KV cache can be booked again, cached prefixes included.
    tokens = case.total_blocks * case.block_tokens
    assert kv.free_blocks == case.total_blocks
    assert kv.allocate(-1, tokens, tokens, (), 0, 0) == 0
    kv.check_integrity(case.total_blocks)
