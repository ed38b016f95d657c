"""The scheduler's rarer turns, one scene each; the laws are in tests/properties."""

import pytest

from penstock.core.decision import Accept, Reject
from penstock.core.request import Request
from penstock.core.slo import ServiceClass, Slo
from penstock.core.step import StepPlan, StepResult
from penstock.perf.step_time.linear import LinearStepTime
from penstock.policy.kv.counting import CountingKv
from penstock.policy.kv.prefix import PrefixKv
from penstock.policy.schedule.options import scheduler_options
from penstock.policy.schedule.replica import ReplicaScheduler
from penstock.registry.make import build_scheduler
from support.strategies import EVIDENCE, SERVICE_CLASSES

STEP_TIME = LinearStepTime(0.01, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)
NAMED = {service_class.name: service_class for service_class in SERVICE_CLASSES}


def scheduler(policy: str, blocks: int, max_in_flight: int = 1,
              **knobs: object) -> ReplicaScheduler:
    return build_scheduler(scheduler_options(policy, kv_watermark=0.0, **knobs), STEP_TIME,
                           CountingKv(blocks, 1), max_in_flight=max_in_flight)


def request(number: int, prompt: int = 4, most: int = 11, service_class: str = "paced",
            arrival_s: float = 0.0) -> Request:
    return Request(number, arrival_s, prompt, most, NAMED[service_class])


def planned(replica: ReplicaScheduler, now_s: float = 0.0) -> StepPlan:
    plan = replica.plan(now_s)
    assert plan is not None
    return plan


def step(replica: ReplicaScheduler, now_s: float = 0.0, finished: tuple[int, ...] = ()) -> StepPlan:
    plan = planned(replica, now_s)
    replica.commit(plan, StepResult(finished), now_s)
    replica.check_integrity()
    return plan


def test_what_can_never_fit_is_refused() -> None:
    replica = scheduler("sarathi", 15)
    assert isinstance(replica.add(request(0, 4, 11), 0.0), Accept)
    assert isinstance(replica.add(request(1, 4, 12), 0.0), Reject)
    assert replica.num_waiting == 1


def test_the_worst_ranked_is_preempted_and_starts_over() -> None:
    replica = scheduler("sarathi", 20)
    for number in (0, 1):
        replica.add(request(number, 8, 12, arrival_s=0.1 * number), 0.0)
    assert [c.request_id for c in step(replica).chunks] == [0, 1]
    plans = [step(replica) for _ in range(3)]
    assert plans[-1].preempted == (1,)
    assert plans[-1].decode_ids == (0,)
    step(replica, finished=(0,))
    (chunk,) = step(replica).chunks
    # Its prompt and the three tokens that it had generated are computed again.
    assert (chunk.request_id, chunk.past, chunk.tokens, chunk.last) == (1, 0, 11, True)


def test_a_preempted_sequence_does_not_start_again_in_the_same_step() -> None:
    replica = scheduler("sarathi", 12)
    for number in (0, 1):
        replica.add(request(number, 5, 7, arrival_s=0.1 * number), 0.0)
    step(replica)
    step(replica)
    plan = step(replica)
    assert plan.preempted == (1,)
    assert not plan.chunks


def test_aborts_take_effect_in_every_state() -> None:
    replica = scheduler("sarathi", 40, chunk_tokens=6)
    for number in range(3):
        replica.add(request(number, arrival_s=0.1 * number), 0.0)
    step(replica)  # request 0 decodes, 1 is half computed, 2 waits
    assert (replica.num_running, replica.num_waiting) == (2, 1)
    assert all(replica.abort(number, 0.1) for number in range(3))
    assert not replica.abort(0, 0.1)
    replica.check_integrity()
    assert replica.kv_used_tokens == replica.pending_prompt_tokens == 0
    assert replica.plan(0.2) is None


def test_blocks_return_after_the_last_step_in_flight() -> None:
    replica = scheduler("sarathi", 40, max_in_flight=2)
    replica.add(request(0), 0.0)
    first, second = planned(replica), planned(replica)
    assert replica.plan(0.0) is None  # the pipeline is full
    replica.commit(first, StepResult((0,)), 0.1)
    assert not replica.has_work()
    assert replica.kv_used_tokens == 5
    replica.commit(second, StepResult(), 0.2)
    assert replica.kv_used_tokens == 0


def test_steps_are_committed_in_order() -> None:
    replica = scheduler("sarathi", 40, max_in_flight=2)
    replica.add(request(0), 0.0)
    planned(replica)
    second = planned(replica)
    with pytest.raises(AssertionError):
        replica.commit(second, StepResult(), 0.1)


def three_on_one_seat(most_slack_first: bool) -> ReplicaScheduler:
    replica = scheduler("niyama", 15, max_in_flight=2, max_decodes=1,
                        most_slack_first=most_slack_first)
    for number in (0, 1):
        replica.add(request(number, arrival_s=0.1 * number), 0.0)
        step(replica)
    return replica


def test_a_decode_sent_to_the_bench_while_in_flight_is_not_preempted() -> None:
    replica = three_on_one_seat(most_slack_first=True)
    first = planned(replica)
    assert first.decode_ids == (1,)
    replica.add(request(2, service_class="none"), 0.0)
    second = planned(replica)
    assert (second.decode_ids, second.chunks[0].request_id) == ((1,), 2)
    replica.commit(first, StepResult(), 0.1)
    assert replica.kv_used_tokens == replica.kv_total_tokens
    third = planned(replica, 0.1)
    # Request 2 has the most slack of all and takes the seat; 1 ranks worst but is in flight.
    assert third.decode_ids == (2,)
    assert third.preempted == (0,)


def test_a_decode_back_from_the_bench_may_be_preempted() -> None:
    # The tightest is seated, so two decodes take turns, each planned while the other runs.
    replica = scheduler("niyama", 11, max_in_flight=2, max_decodes=1, most_slack_first=False)
    for number in (0, 1):
        replica.add(request(number, most=7), 0.0)
    step(replica)
    running = [planned(replica)]
    seated = [running[0].decode_ids]
    for _ in range(3):
        running.append(planned(replica))
        seated.append(running[-1].decode_ids)
        replica.commit(running.pop(0), StepResult(), 0.1)
    # The cache is full: 1 takes its seat back, but only 1 may lose its KV, as 0 still runs.
    assert seated == [(0,), (1,), (0,), ()]
    assert running[0].preempted == (1,)


def test_the_order_in_which_a_driver_names_endings_does_not_matter() -> None:
    plans = []
    for finished in ((0, 1), (1, 0)):
        replica = build_scheduler(scheduler_options("sarathi", kv_watermark=0.0), STEP_TIME,
                                  PrefixKv(12, 1))
        for number in (0, 1):
            hashes = tuple(range(10 * number, 10 * number + 4))
            replica.add(Request(number, 0.0, 4, 2, NAMED["none"], "", "", hashes, 1), 0.0)
        step(replica, finished=finished)
        replica.add(request(2, 8, 1), 0.0)  # evicts four of the eight cached blocks
        step(replica, finished=(2,))
        replica.add(Request(3, 0.0, 5, 2, NAMED["none"], "", "", (0, 1, 2, 3), 1), 0.0)
        plans.append(step(replica))
    assert plans[0] == plans[1]


def test_a_plan_that_returns_none_has_changed_nothing() -> None:
    plans = []
    for asked in (True, False):
        replica = scheduler("penstock", 12, max_in_flight=2, queue_timeout_s=0.0)
        replica.add(request(0, 4, 6, "none"), 0.0)
        step(replica)
        first, second = planned(replica, 0.1), planned(replica, 0.1)
        replica.add(request(1, 8, 2, "tight", arrival_s=0.29), 0.29)
        replica.commit(first, StepResult((0,)), 0.3)
        if asked:
            assert replica.plan(0.3) is None  # the wasted step still holds the KV cache
        replica.commit(second, StepResult(), 0.35)
        plans.append(replica.plan(0.35))
    assert plans[0] == plans[1]


def test_relegation_is_two_way_through_the_scheduler() -> None:
    replica = scheduler("penstock", 10_000, review_s=0.0, max_num_seqs=1)
    replica.add(request(0, 4, 10, "none"), 0.0)
    step(replica)
    # Prompts of 4,000 and 5,000 tokens take 0.4 and 0.5 s, and 0.9 s do not fit before 1 s less
    # what decodes take and the margin.
    replica.add(request(1, 4000, 10, arrival_s=100.0), 100.0)
    replica.add(request(2, 5000, 10, arrival_s=100.0), 100.0)
    assert step(replica, 100.01).relegated == (2,)
    replica.abort(1, 100.02)
    assert step(replica, 100.02).restored == (2,)


def test_steady_steps_end_before_room_does() -> None:
    replica = scheduler("sarathi", 30)
    for number in (0, 1):
        replica.add(request(number, 5, 20), 0.0)
    step(replica)
    plan = planned(replica)
    steps = replica.steady_steps(plan)
    # 18 blocks are free after this step's two: nine more turns of two fit.
    assert steps == 1 + 9
    replica.commit(plan, StepResult((), steps), 0.1)
    replica.check_integrity()
    assert replica.kv_used_tokens == 30
    assert planned(replica).preempted == (1,)


def test_nothing_is_steady_while_room_was_just_made() -> None:
    replica = scheduler("edf", 13, prefill_first=True)
    replica.add(request(0, 4, 9, "tight"), 0.0)
    replica.add(request(1, 4, 9, "e2e"), 0.0)
    step(replica)
    replica.add(request(2, 6, 7, "paced"), 0.0)  # outranks request 1, but finds five blocks
    for _ in range(2):
        assert step(replica).decode_ids == (0, 1)
    plan = planned(replica)
    assert plan.preempted == (1,)
    assert replica.steady_steps(plan) == 1
    replica.commit(plan, StepResult(), 0.1)
    assert planned(replica).chunks[0].request_id == 2


def test_a_moved_prompt_joins_the_decodes() -> None:
    replica = scheduler("sarathi", 40)
    replica.add(request(0, 8, 12)._replace(remote_tokens=7), 0.0)
    plan = step(replica)
    assert [(chunk.tokens, chunk.past, chunk.last) for chunk in plan.chunks] == [(1, 7, True)]
    assert plan.features == (0, 0.0, 1, 7)  # its last token costs what a decode costs
    replica.add(request(1, 8, 12), 0.0)
    assert step(replica).features[:3] == (8, 32.0, 1)


def test_classes_with_equal_targets_share_a_decode_group() -> None:
    replica = scheduler("penstock", 100)
    slos = (Slo(ttft_s=1.0, itl_s=0.1), Slo(ttft_s=1.0, itl_s=0.1), Slo(e2e_s=60.0))
    for number, slo in enumerate(slos):
        replica.add(Request(number, 0.0, 4, 11, ServiceClass(f"class-{number}", slo)), 0.0)
    step(replica)
    assert [sorted(group.members) for group in replica.groups] == [[0, 1], [2]]
