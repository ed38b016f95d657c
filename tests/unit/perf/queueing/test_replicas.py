"""Equal replicas before a mix: hand-made cases, limits that are known, and laws."""

from dataclasses import replace
from math import exp, inf, isnan, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.perf.evidence import Evidence
from penstock.perf.linear import LinearStepTime
from penstock.perf.queueing.replicas import (
    ClassTargets,
    EngineLimits,
    ReplicaQueue,
    RequestMix,
    WaitTail,
    erlang_c,
)

EVIDENCE = Evidence("made up for tests", 0.0, 0.0)
STEP = LinearStepTime(0.01, 1e-4, 0.0, 1e-4, 1e-7, EVIDENCE)
PROMPTS_ONLY = LinearStepTime(0.0, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)
FIFO = EngineLimits(512, 100_000, 256, by_pace=False, by_deadline=False)
PACED = EngineLimits(2048, 100_000, 256, by_pace=True, by_deadline=True)


def mix(prompts, outputs, classes=None, gap_scv=1.0):
    prompts = np.asarray(prompts, dtype=np.float64)
    outputs = np.broadcast_to(np.asarray(outputs, dtype=np.float64), prompts.shape)
    index = np.zeros(len(prompts), np.int64) if classes is None else np.asarray(classes, np.int64)
    return RequestMix(prompts, outputs, index, gap_scv)


NO_TARGETS = (ClassTargets("chat"),)


def queue(model=STEP, engine=FIFO, requests=None, targets=NO_TARGETS):
    return ReplicaQueue(model, engine, requests or mix([400.0], 40), targets)


# -- waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("servers", "load", "expected"), [
    (1, 0.3, 0.3), (1, 0.9, 0.9), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (10, 8.0, 0.409180),
    (5, 0.0, 0.0), (5, 5.0, 1.0), (5, 9.0, 1.0)])
def test_erlang_c_has_its_known_values(servers, load, expected):
    assert erlang_c(servers, load) == pytest.approx(expected, rel=1e-5)


def test_erlang_c_stands_thousands_of_servers():
    assert 0.0 < erlang_c(20_000, 19_900.0) < 1.0
    assert erlang_c(20_000, 1_000.0) == 0.0


def test_the_tail_is_exponential_and_no_slack_is_late():
    tail = WaitTail(0.5, 2.0)
    assert tail.exceeds(np.array([0.0])) == 0.5
    assert tail.exceeds(np.array([2.0])) == pytest.approx(0.5 * exp(-1))
    assert tail.exceeds(np.array([-1e-9])) == 1.0
    assert tail.exceeds(np.array([inf])) == 0.0
    assert tail.exceeds(np.array([0.0, inf, -1.0])) == pytest.approx(0.5)
    assert tail.exceeds(np.array([])) == 0.0
    assert WaitTail(1.0, inf).exceeds(np.array([1e9])) == 1.0


def test_prompts_alone_are_an_m_d_1_queue():
    """Mean wait rho S / (2 (1 - rho)), of which a share rho waits at all."""
    one = queue(PROMPTS_ONLY, requests=mix([1000.0], 1))
    service_s, rate_per_s = 0.1, 6.0
    mean_s = service_s / (2 * (1 - 0.6))
    for share in (0.5, 0.9, 0.99):
        expected = service_s + mean_s * log(0.6 / (1 - share))
        assert one.ttft_quantile_s(0, share, rate_per_s) == pytest.approx(expected, rel=1e-3)
    assert one.ttft_quantile_s(0, 0.3, rate_per_s) == pytest.approx(service_s, rel=1e-3)
    assert one.saturation_per_s() == pytest.approx(10.0, rel=1e-4)


def test_kingman_goes_by_both_coefficients_of_variation():
    prompts = [500.0, 1500.0]
    one = queue(PROMPTS_ONLY, requests=mix(prompts, 1, gap_scv=3.0))
    mean_s = 0.1 * 0.5 * (3.0 + 0.25) / (1 - 0.6)
    # Half of the requests take 0.05 s, half 0.15 s, on top of the wait.
    at_s = one.ttft_quantile_s(0, 0.9, 6.0)
    late = 0.6 * np.mean(np.exp(-(at_s - np.array([0.05, 0.15])) / mean_s))
    assert late == pytest.approx(0.1, rel=1e-3)


def test_equal_requests_at_equal_distances_never_wait():
    one = queue(PROMPTS_ONLY, requests=mix([1000.0], 1, gap_scv=0.0))
    assert one.ttft_quantile_s(0, 0.99, 9.0) == pytest.approx(0.1, rel=1e-3)
    assert one.misses(9.0) == [(0.0, "ttft")]


def test_replicas_that_share_a_queue_wait_less():
    one = queue(PROMPTS_ONLY, requests=mix([1000.0], 1))
    waits = [one.ttft_quantile_s(0, 0.99, 6.0, count) for count in (1, 2, 4, 16, 64)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 0.5
    assert waits[-1] == pytest.approx(0.1, rel=0.1)


# -- the mean state --------------------------------------------------------------------------------


def test_an_idle_replica_needs_the_prompt_and_a_step():
    one = queue()
    prompt_s = 400 * (0.01 + 512e-4) / 512
    assert one.ttft_quantile_s(0, 0.99, 1e-6) == pytest.approx(prompt_s + 0.01, rel=0.01)
    state = one.operation(1e-6)
    assert state.gap_s == pytest.approx(0.01, rel=0.01)
    assert state.gap_quantile_s(0.99) == state.decode_step_s


def test_saturation_is_the_throughput_of_full_steps():
    """A full step of T tokens has P T / (P + D) of prompts and D T / (P + D) decodes."""
    prompt, decodes, tokens = 400, 39, 512
    seqs = tokens * decodes / (prompt + decodes)
    context = seqs * (prompt + 20.0)
    full_s = 0.01 + 1e-4 * (tokens - seqs) + 1e-4 * seqs + 1e-7 * context
    expected = tokens / ((prompt + decodes) * full_s)
    assert queue().saturation_per_s() == pytest.approx(expected, rel=5e-3)


def test_little_s_law_holds_of_decodes():
    one = queue()
    for rate_per_s in (0.5, 3.0, 12.0):
        state = one.operation(rate_per_s)
        assert state.decode_seqs == pytest.approx(rate_per_s * 39 * state.gap_s, rel=1e-2)
        full = rate_per_s * 400 * state.full_step_s / state.chunk_tokens
        assert state.prefill_share == pytest.approx(full)


def test_a_full_cache_is_saturation():
    roomy, tight = queue(), queue(engine=replace(FIFO, kv_tokens=1680))
    limit = 1680 / 420.0  # decodes whose contexts fill the cache
    saturation = tight.saturation_per_s()
    assert saturation < 0.8 * roomy.saturation_per_s()
    assert tight.operation(saturation).decode_seqs == pytest.approx(limit, rel=1e-2)
    assert tight.misses(1.01 * saturation) == [(1.0, "throughput")]
    assert tight.capacity_per_s() == (saturation, "throughput")


def test_the_most_sequences_bind_as_well():
    few = queue(engine=replace(FIFO, max_num_seqs=2))
    assert few.operation(few.saturation_per_s()).decode_seqs == pytest.approx(2.0, rel=1e-2)


def test_one_token_steps_carry_nothing():
    stuck = queue(engine=replace(FIFO, step_tokens=1))
    assert stuck.first_miss(1e-9) == ("chat", "throughput")
    assert stuck.saturation_per_s() == pytest.approx(0.0, abs=1e-6)
    assert stuck.capacity_per_s() == (0.0, "throughput")
    assert stuck.ttft_quantile_s(0, 0.5, 1.0) == inf


def test_budgets_far_beyond_need_change_nothing_where_the_pace_decides():
    """Found by step_tokens: [1000000000]: the search for the chunk was too coarse."""
    targets = (ClassTargets("chat", 2.0, 0.05),)
    usual = queue(engine=PACED, targets=targets).capacity_per_s()[0]
    huge = queue(engine=replace(PACED, step_tokens=1_000_000_000), targets=targets)
    assert huge.capacity_per_s()[0] == pytest.approx(usual, rel=0.02)


# -- targets ---------------------------------------------------------------------------------------


def test_what_binds_is_named():
    cases = {
        "chat ttft": ClassTargets("chat", ttft_s=0.1),
        "chat e2e": ClassTargets("chat", e2e_s=0.6),
        "chat itl": ClassTargets("chat", itl_s=0.02, paced=False),
        "throughput": ClassTargets("chat"),
    }
    for binding, target in cases.items():
        assert queue(targets=(target,)).capacity_per_s()[1] == binding


def test_a_pace_that_no_step_keeps_is_said_to_be_itl():
    one = queue(engine=PACED, targets=(ClassTargets("a"), ClassTargets("b", itl_s=0.005)))
    assert one.first_miss(1e-9) == ("b", "itl")
    assert one.capacity_per_s() == (0.0, "b itl")


def test_strict_gaps_count_full_steps_and_paced_ones_the_mean():
    strict = queue(targets=(ClassTargets("chat", 2.0, 0.04, paced=False),))
    paced = queue(targets=(ClassTargets("chat", 2.0, 0.04, paced=True),))
    # 512 tokens take 0.0612 s, and at most 1 % of gaps may be so long.
    assert strict.capacity_per_s()[0] < 0.1 * paced.capacity_per_s()[0]
    lenient = queue(targets=(ClassTargets("chat", 2.0, 0.04, paced=False, percentile=50.0),))
    assert strict.capacity_per_s()[0] < lenient.capacity_per_s()[0]


def test_an_early_first_token_leaves_slack_to_the_pace():
    itl_s = 0.03
    without = queue(targets=(ClassTargets("chat", inf, itl_s),)).capacity_per_s()[0]
    slack = queue(targets=(ClassTargets("chat", 2.0, itl_s),)).capacity_per_s()[0]
    assert slack > 1.1 * without


def test_a_deadline_lets_the_urgent_class_pass():
    requests = mix([200.0, 4000.0], 10, [0, 1])
    targets = (ClassTargets("chat", 0.4), ClassTargets("batch", 60.0))
    engine = replace(FIFO, by_deadline=True)
    by_deadline = queue(engine=engine, requests=requests, targets=targets).capacity_per_s()
    by_arrival = queue(requests=requests, targets=targets).capacity_per_s()
    assert by_arrival[1] == "chat ttft"
    assert by_deadline[0] > 1.2 * by_arrival[0]


def test_classes_without_targets_leave_throughput():
    one = queue()
    assert one.capacity_per_s() == (one.saturation_per_s(), "throughput")


def test_the_hundredth_percentile_asks_for_more_and_is_finite():
    shares = (50.0, 90.0, 99.0, 100.0)
    found = [queue(targets=(ClassTargets("chat", 0.5, percentile=p),)).capacity_per_s()[0]
             for p in shares]
    assert found == sorted(found, reverse=True)
    assert found[-1] > 0.0
    assert np.isfinite(queue().ttft_quantile_s(0, 1.0, 5.0))


def test_a_class_without_requests_misses_nothing_and_has_no_latency():
    one = queue(targets=(ClassTargets("chat", 1.0), ClassTargets("never", 1e-9)))
    assert one.first_miss(1.0) is None
    assert isnan(one.ttft_quantile_s(1, 0.99, 1.0))


def test_a_step_that_takes_no_time_has_no_limit():
    free = queue(LinearStepTime(0.0, 0.0, 0.0, 0.0, 0.0, EVIDENCE))
    assert free.ttft_quantile_s(0, 0.99, 1e5) == pytest.approx(0.0, abs=1e-9)


# -- laws ------------------------------------------------------------------------------------------

_SECONDS = st.sampled_from((inf, 0.05, 0.3, 1.0, 10.0))
_GAPS = st.sampled_from((inf, 0.012, 0.02, 0.05, 0.2))
_PERCENTILES = st.sampled_from((50.0, 90.0, 99.0, 100.0))
_ENGINES = st.builds(EngineLimits, st.sampled_from((64, 512, 2048)),
                     st.sampled_from((3_000, 100_000)), st.sampled_from((8, 256)),
                     st.booleans(), st.booleans())
_STEPS = st.builds(LinearStepTime, st.sampled_from((0.0, 0.004, 0.01)),
                   st.sampled_from((2e-5, 1e-4)), st.sampled_from((0.0, 1e-9)),
                   st.sampled_from((0.0, 1e-4)), st.sampled_from((0.0, 1e-7)), st.just(EVIDENCE))


@st.composite
def _targets(draw, name):
    ttft_s, e2e_s = sorted((draw(_SECONDS), draw(_SECONDS)))
    return ClassTargets(name, ttft_s, draw(_GAPS), e2e_s, draw(st.booleans()), draw(_PERCENTILES))


@st.composite
def _queues(draw):
    rows = draw(st.lists(st.tuples(st.integers(1, 2000), st.integers(1, 300)), min_size=2,
                         max_size=5))
    requests = mix([row[0] for row in rows], [row[1] for row in rows],
                   [i % 2 for i in range(len(rows))], draw(st.sampled_from((0.0, 1.0, 6.0))))
    return (draw(_STEPS), draw(_ENGINES), requests,
            (draw(_targets("a")), draw(_targets("b"))))


_TOLERANCE = 1.0 + 2e-2  # of bisections, and of chunks as whole tokens


@settings(max_examples=50)
@given(_queues(), st.sampled_from(("ttft_s", "itl_s", "e2e_s")), st.integers(1, 8))
def test_a_tighter_target_never_raises_capacity(parts, name, count):
    model, engine, requests, targets = parts
    # By deadline, a tighter target may rightly push its class ahead of another.
    engine = replace(engine, by_deadline=False)
    value = getattr(targets[0], name)
    changes = {name: 0.5 if value == inf else value / 2}
    if name == "itl_s" and value == inf:
        changes = {name: 0.1}
    tight = (replace(targets[0], **changes), targets[1])
    before = ReplicaQueue(model, engine, requests, targets).capacity_per_s(count)[0]
    after = ReplicaQueue(model, engine, requests, tight).capacity_per_s(count)[0]
    assert after <= before * _TOLERANCE + 1e-5


@settings(max_examples=50)
@given(_queues(), st.integers(1, 8))
def test_a_faster_step_never_lowers_capacity(parts, count):
    model, engine, requests, targets = parts
    faster = LinearStepTime(*(0.7 * getattr(model, name) for name in (
        "base_s", "prefill_token_s", "work_s", "decode_seq_s", "context_s")), EVIDENCE)
    before = ReplicaQueue(model, engine, requests, targets).capacity_per_s(count)[0]
    after = ReplicaQueue(faster, engine, requests, targets).capacity_per_s(count)[0]
    assert after * _TOLERANCE + 1e-5 >= before


@settings(max_examples=50)
@given(_queues(), st.floats(0.01, 20.0), st.integers(1, 8))
def test_quantiles_are_ordered_and_grow_with_the_rate(parts, rate_per_s, count):
    one = ReplicaQueue(*parts)
    for index in (0, 1):
        low, high = (one.ttft_quantile_s(index, share, rate_per_s, count) for share in (0.5, 0.99))
        assert 0.0 <= low <= high * _TOLERANCE
    state = one.operation(rate_per_s)
    if state is not None:
        assert state.gap_quantile_s(0.5) <= state.gap_quantile_s(0.99)


@settings(max_examples=50)
@given(_queues(), st.integers(1, 8))
def test_capacity_is_where_the_first_miss_is(parts, count):
    one = ReplicaQueue(*parts)
    capacity, binding = one.capacity_per_s(count)
    assert capacity <= one.saturation_per_s()
    if capacity > 1e-3:
        assert one.first_miss(0.999 * capacity, count) is None
        if binding != "throughput":
            assert one.first_miss(1.001 * capacity + 1e-5, count) is not None


@settings(max_examples=30)
@given(_queues(), st.integers(1, 6))
def test_more_replicas_never_carry_less_each(parts, count):
    one = ReplicaQueue(*parts)
    assert one.capacity_per_s(count + 1)[0] * _TOLERANCE + 1e-5 >= one.capacity_per_s(count)[0]
