"""Predictive dispatch: queues played forward."""

from dataclasses import replace

import pytest

from penstock.core.snapshot import QueuedWork
from penstock.policy.route.predictive import Predictive, forward
from penstock.predict.latency import LatencyPrior
from support.small_routing import (
    LARGE,
    PRIOR,
    STEP,
    burst,
    departure,
    expected,
    fact,
    joined,
    request,
    snapshot,
    usual,
)
from support.stepwise_latency import slow_forward

FACTS = {i: fact(i) for i in range(3)} | {3: fact(3, LARGE)}
NEW = QueuedWork(100, 0, 10.0)


def router(target: str = "e2e", sample: int = 0) -> Predictive:
    return Predictive(FACTS, usual(list(FACTS.values())), target, sample)  # type: ignore[arg-type]


def test_on_an_idle_replica_it_takes_a_step_per_token() -> None:
    first_s, last_s = forward(PRIOR, (), 10_000, NEW)
    assert first_s == pytest.approx(STEP.seconds(100, 5000.0, 0, 0))
    assert last_s - first_s == pytest.approx(sum(STEP.seconds(0, 0.0, 1, 100 + i)
                                                 for i in range(9)))


def test_an_answer_of_one_token_is_over_with_its_prompt() -> None:
    first_s, last_s = forward(PRIOR, (), 10_000, QueuedWork(100, 0, 1.0))
    assert first_s == last_s == pytest.approx(STEP.seconds(100, 5000.0, 0, 0))


def test_long_prompts_take_several_steps() -> None:
    first_s, _ = forward(PRIOR, (), 10_000, QueuedWork(1100, 0, 5.0))
    assert first_s == pytest.approx(3 * STEP.base_s + 1100 * STEP.prefill_token_s)


def test_what_was_computed_already_is_not_computed_again() -> None:
    fresh, begun = ((QueuedWork(1000, 0, 1.0),), (QueuedWork(200, 800, 1.0),))
    assert forward(PRIOR, begun, 10_000, NEW)[0] < forward(PRIOR, fresh, 10_000, NEW)[0]


def test_a_full_house_is_waited_for() -> None:
    prior = LatencyPrior(STEP, 2, 512)
    queue = (QueuedWork(0, 100, 30.0), QueuedWork(0, 100, 50.0))
    first_s, _ = forward(prior, queue, 10_000, NEW)
    assert first_s == pytest.approx(slow_forward(prior, queue, 10_000, NEW)[0])
    assert 30 * STEP.seconds(0, 0.0, 2, 200) < first_s < 32 * STEP.seconds(0, 0.0, 2, 300)


def test_a_full_cache_is_waited_for() -> None:
    queue = (QueuedWork(0, 950, 20.0),)
    roomy, tight = (forward(PRIOR, queue, kv, NEW)[0] for kv in (10_000, 1000))
    assert roomy < 0.03 < 20 * STEP.base_s < tight


def test_a_prompt_larger_than_the_cache_goes_in_alone() -> None:
    first_s, last_s = forward(PRIOR, (QueuedWork(0, 50, 3.0),), 80, NEW)
    assert 3 * STEP.base_s < first_s < last_s < 1.0


def test_a_queue_without_end_is_called_full() -> None:
    first_s, last_s = forward(PRIOR, (QueuedWork(10**9, 0, 1.0),), 10**10, NEW)
    assert first_s == last_s > 4000 * STEP.base_s


def test_the_queue_that_is_over_first_is_taken() -> None:
    """Fewer requests do not mean less to wait for."""
    one_long = snapshot(0, waiting=1, queued=20_000, kv_total=10**6,
                        queue=(QueuedWork(20_000, 0, 300.0),))
    three_short = snapshot(1, running=3, kv_used=300, kv_total=10**6,
                           queue=tuple(QueuedWork(0, 100, 5.0) for _ in range(3)))
    one = request(forecasts=expected())
    route = router().route(one, [one_long, three_short], 0.0)
    assert route.replica_id == 1
    assert 0.0 < route.terms["ttft_s"] < route.terms["e2e_s"]


def test_the_first_token_or_the_last_may_be_the_target() -> None:
    """The large model's replica is idle but slow, the small one's is fast behind a prompt."""
    fast = snapshot(0, waiting=1, queued=1500, queue=(QueuedWork(1500, 0, 10.0),))
    slow = snapshot(3, "large")
    one = request(forecasts=expected())
    assert router("e2e").route(one, [fast, slow], 0.0).replica_id == 0
    assert router("ttft").route(one, [fast, slow], 0.0).replica_id == 3


def test_equal_queues_go_to_the_lower_number() -> None:
    same = [snapshot(i, queue=(QueuedWork(50, 0, 9.0),), waiting=1, queued=50) for i in (2, 0, 1)]
    assert router().route(request(), same, 0.0).replica_id == 0


def test_a_sample_looks_at_the_fewest_requests_only() -> None:
    crowded = snapshot(0, waiting=2, queue=(QueuedWork(1, 0, 1.0),) * 2)
    alone = snapshot(1, waiting=1, queue=(QueuedWork(9000, 0, 900.0),))
    one = request(forecasts=expected())
    assert router(sample=1).route(one, [crowded, alone], 0.0).replica_id == 1
    assert router(sample=2).route(one, [crowded, alone], 0.0).replica_id == 0


def test_an_answer_is_no_longer_than_asked_for() -> None:
    one = request(max_tokens=10, forecasts=expected(tokens=1000.0))
    terms = router().route(one, [snapshot(0)], 0.0).terms
    assert terms["e2e_s"] == pytest.approx(forward(PRIOR, (), 100_000, NEW)[1])


def test_a_burst_over_equal_replicas_spreads() -> None:
    routes = burst(router(), [snapshot(i) for i in range(3)], 20)
    counts = [sum(route.replica_id == i for route in routes) for i in range(3)]
    assert max(counts) - min(counts) <= 1


def test_lengths_are_learned_where_nothing_is_forecast() -> None:
    routing, idle = router(), [snapshot(0)]
    before = routing.route(request(), idle, 0.0).terms["e2e_s"]
    for number in range(300):
        routing.route(request(number), idle, 0.0)
        routing.ended(departure(number, 0, 0.1, 1.0, 10))
    after = routing.route(request(999), idle, 0.0).terms["e2e_s"]
    assert after < 0.3 * before


def test_one_more_in_the_queue_is_one_more_to_wait_for() -> None:
    empty = replace(PRIOR, max_num_seqs=4)
    replica = snapshot(0)
    waits = []
    for number in range(12):
        waits.append(forward(empty, replica.queue, 100_000, NEW))
        replica = joined(replica, request(number), 20.0)
    assert waits == sorted(waits)
    assert waits[-1][0] > waits[0][0]
