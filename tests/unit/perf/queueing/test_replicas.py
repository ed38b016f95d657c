"""Equal replicas before a mix: hand-made cases, limits that are known, and laws."""

from dataclasses import replace
from math import inf, isnan, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.slo import ITL_MODES
from penstock.perf.evidence import Evidence
from penstock.perf.queueing.parameters import RequestSize, Variability
from penstock.perf.queueing.replicas import (
    ClassTargets,
    EngineLimits,
    ReplicaQueue,
    RequestMix,
)
from penstock.perf.step_time.linear import LinearStepTime
from support.drawn_requests import drawn_gaps, drawn_mix
from support.scaled_examples import unit_examples

EVIDENCE = Evidence("made up for tests", 0.0, 0.0)
STEP = LinearStepTime(0.01, 1e-4, 0.0, 1e-4, 1e-7, EVIDENCE)
PROMPTS_ONLY = LinearStepTime(0.0, 1e-4, 0.0, 0.0, 0.0, EVIDENCE)
FIFO = EngineLimits(512, 100_000, 256, by_pace=False, by_deadline=False)
SMALL_STEPS = EngineLimits(10, 100_000, 256, by_pace=False, by_deadline=False)
PACED = EngineLimits(2048, 100_000, 256, by_pace=True, by_deadline=True)


NUM_REQUESTS = 6000


def mix(prompts, outputs, classes=None, gap_scv=1.0, num=NUM_REQUESTS):
    """The rows over and over, in an order and at gaps drawn by chance."""
    rng = np.random.default_rng(5)
    prompts = np.asarray(prompts, dtype=np.float64)
    outputs = np.broadcast_to(np.asarray(outputs, dtype=np.float64), prompts.shape)
    index = np.zeros(len(prompts), np.int64) if classes is None else np.asarray(classes, np.int64)
    rows = rng.permutation(np.arange(num) % len(prompts))
    return RequestMix(prompts[rows], outputs[rows], index[rows], drawn_gaps(gap_scv, num, rng))


NO_TARGETS = (ClassTargets("chat"),)


def queue(model=STEP, engine=FIFO, requests=None, targets=NO_TARGETS):
    return ReplicaQueue(model, engine, requests or mix([400.0], 40), targets)


# -- waiting ---------------------------------------------------------------------------------------


def test_prompts_alone_are_an_m_d_1_queue():
    """Mean wait rho S / (2 (1 - rho)), of which a share rho waits at all (Erlang 1909)."""
    one = queue(PROMPTS_ONLY, SMALL_STEPS, requests=mix([1000.0], 1, num=100_000))
    service_s, rate_per_s, load = 0.1, 6.0, 0.6
    # P(wait <= t) = (1 - rho) exp(lambda t) for t up to one service time.
    assert one.ttft_quantile_s(0, 0.3, rate_per_s) == pytest.approx(service_s, rel=5e-3)
    at_s = log(0.6 / (1 - load)) / rate_per_s
    assert one.ttft_quantile_s(0, 0.6, rate_per_s) == pytest.approx(service_s + at_s, rel=0.03)
    quantiles = [one.ttft_quantile_s(0, share, rate_per_s) - service_s
                 for share in np.linspace(0.0005, 0.9995, 1000)]
    assert np.mean(quantiles) == pytest.approx(service_s * load / (2 * (1 - load)), rel=0.06)
    assert one.saturation_per_s() == pytest.approx(10.0, rel=1e-4)


@pytest.mark.parametrize("gap_scv", [0.25, pytest.param(3.0, marks=pytest.mark.long)])
def test_bursts_and_unequal_prompts_wait_about_as_kingman_says(gap_scv):
    requests = mix([500.0, 1500.0], 1, gap_scv=gap_scv, num=100_000)
    one = queue(PROMPTS_ONLY, SMALL_STEPS, requests)
    waits = [one.ttft_quantile_s(0, share, 8.0) for share in np.linspace(0.0005, 0.9995, 1000)]
    mean_s = 0.1 * 0.5 * (gap_scv + 0.25) * 0.8 / (1 - 0.8)
    assert np.mean(waits) - 0.1 == pytest.approx(mean_s, rel=0.2)


def test_the_wait_for_a_place_of_an_adapter_is_part_of_the_first_token():
    requests = mix([400.0], 40)
    index = np.arange(NUM_REQUESTS) % 12 - 1  # a twelfth for the model itself
    named = replace(requests, adapter_index=index)
    few = replace(FIFO, max_loras=2)
    targets = (ClassTargets("chat", ttft_s=1.0),)
    with_places = queue(requests=named, engine=replace(FIFO, max_loras=11), targets=targets)
    tight = queue(requests=named, engine=few, targets=targets)
    alone = queue(requests=requests, engine=few, targets=targets)
    assert with_places.ttft_quantile_s(0, 0.99, 3.0) == alone.ttft_quantile_s(0, 0.99, 3.0)
    assert tight.ttft_quantile_s(0, 0.99, 3.0) > 1.0 > alone.ttft_quantile_s(0, 0.99, 3.0)
    waits_s = tight.adapter_waits_s(3.0)
    assert not waits_s[index < 0].any()
    assert waits_s[index >= 0].mean() > 0.05
    assert tight.first_miss(3.0) == ("chat", "adapters")
    assert tight.first_miss(3.0 / 5, 5) is None, "five replicas have ten places"
    rate_per_s, binding = tight.capacity_per_s()
    assert binding == "chat adapters"
    assert rate_per_s < 3.0 < alone.capacity_per_s()[0]


def test_equal_requests_at_equal_distances_never_wait():
    one = queue(PROMPTS_ONLY, SMALL_STEPS, requests=mix([1000.0], 1, gap_scv=0.0))
    assert one.ttft_quantile_s(0, 0.99, 9.0) == pytest.approx(0.1, rel=1e-2)
    assert one.misses(9.0) == [(0.0, "ttft")]


def test_replicas_that_share_a_queue_wait_less():
    one = queue(PROMPTS_ONLY, SMALL_STEPS, requests=mix([1000.0], 1))
    waits = [one.ttft_quantile_s(0, 0.99, 6.0, count) for count in (1, 2, 4, 16, 64)]
    assert waits == sorted(waits, reverse=True)
    assert waits[0] > 0.3
    assert waits[-1] == pytest.approx(0.1, rel=0.1)


def test_a_burst_is_felt_though_the_gaps_are_no_more_uneven():
    """The same gaps in another order: the short ones one after another."""
    even = mix([1000.0], 1)
    burst = replace(even, gaps=np.concatenate(
        [np.sort(even.gaps[:3000]), np.sort(even.gaps[3000:])]))
    waits = [queue(PROMPTS_ONLY, SMALL_STEPS, requests=one).ttft_quantile_s(0, 0.9, 6.0)
             for one in (even, burst)]
    assert waits[1] > 3 * waits[0]


def test_relegation_gives_up_few_so_that_the_others_are_in_time():
    """Boots and Tijms: P (1 - rho) / (1 - rho P) of those late in order are late then."""
    targets = (ClassTargets("chat", 0.4),)
    requests = mix([1000.0], 1)
    kept, = queue(PROMPTS_ONLY, SMALL_STEPS, requests, targets).misses(8.0)
    engine = replace(SMALL_STEPS, relegates=True)
    given_up, = queue(PROMPTS_ONLY, engine, requests, targets).misses(8.0)
    assert 0.05 < kept[0] < 0.5
    assert given_up[0] == pytest.approx(kept[0] * 0.2 / (1 - 0.8 * kept[0]), rel=0.02)
    slow = queue(PROMPTS_ONLY, engine, requests, targets)
    assert slow.ttft_quantile_s(0, 0.9, 8.0) <= 0.4 < slow.ttft_quantile_s(0, 0.999, 8.0)


def test_a_small_cache_is_waited_for():
    """Four requests fit, each for two seconds: at 1.7 per second some must wait for long."""
    requests = mix([400.0], 40)
    roomy = queue(requests=requests).ttft_quantile_s(0, 0.99, 4.0)
    tight = queue(engine=replace(FIFO, kv_tokens=1880), requests=requests)
    assert tight.saturation_per_s() > 4.0
    assert tight.ttft_quantile_s(0, 0.99, 4.0) > 2 * roomy
    assert tight.ttft_quantile_s(0, 0.99, 0.1) == pytest.approx(
        queue(requests=requests).ttft_quantile_s(0, 0.99, 0.1), rel=0.01)


def test_urgent_prompts_that_come_later_pass():
    """A class due later waits for the urgent ones that come meanwhile, and not for later ones."""
    requests = mix([1000.0, 1000.0], 1, [0, 1])
    targets = (ClassTargets("chat", 1.0), ClassTargets("batch", 60.0))
    by_arrival = queue(PROMPTS_ONLY, requests=requests, targets=targets)
    by_deadline = queue(PROMPTS_ONLY, replace(FIFO, by_deadline=True), requests, targets)
    chat, batch = ([one.ttft_quantile_s(i, 0.99, 8.0) for one in (by_arrival, by_deadline)]
                   for i in (0, 1))
    assert chat[1] < 0.6 * chat[0]
    assert batch[1] > 1.2 * batch[0]


def test_drawn_requests_have_their_moments():
    drawn = drawn_mix(RequestSize(1000, 200), Variability(2.0, 0.9, 0.5), np.random.default_rng(1))
    for column, mean, scv in ((drawn.prompt_tokens, 1000, 0.9), (drawn.output_tokens, 200, 0.5),
                              (drawn.gaps, 1.0, 2.0)):
        assert column.mean() == pytest.approx(mean, rel=0.01)
        assert column.var() / column.mean() ** 2 == pytest.approx(scv, rel=0.05)
    equal = drawn_mix(RequestSize(1000, 1), Variability(0.0), np.random.default_rng(1))
    assert set(equal.prompt_tokens) == {1000.0}
    assert set(equal.gaps) == {1.0}
    assert (drawn.output_tokens >= 1.0).all()


# -- the mean state --------------------------------------------------------------------------------


def test_an_idle_replica_needs_the_prompt_and_a_step():
    one = queue()
    prompt_s = 400 * (0.01 + 512e-4) / 512
    # What a full step's other tokens would have paid of its fixed time, the prompt pays alone.
    alone_s = prompt_s + 0.01 * (1 - 400 / 512)
    assert one.ttft_quantile_s(0, 0.99, 1e-6) == pytest.approx(alone_s, rel=0.01)
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
    limit = (1680 - 200) / 420.0  # decodes whose contexts fill the cache, half a prompt left
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
    assert stuck.capacity_per_s() == (0.0, "chat throughput")
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
        "chat itl": ClassTargets("chat", itl_s=0.02, itl="strict"),
        "throughput": ClassTargets("chat"),
    }
    for binding, target in cases.items():
        assert queue(targets=(target,)).capacity_per_s()[1] == binding


def test_a_pace_that_no_step_keeps_is_said_to_be_itl():
    one = queue(engine=PACED, targets=(ClassTargets("a"), ClassTargets("b", itl_s=0.005)))
    assert one.first_miss(1e-9) == ("b", "itl")
    assert one.capacity_per_s() == (0.0, "b itl")


def test_strict_gaps_count_full_steps_and_paced_ones_the_mean():
    strict = queue(targets=(ClassTargets("chat", 2.0, 0.04, itl="strict"),))
    paced = queue(targets=(ClassTargets("chat", 2.0, 0.04, itl="paced"),))
    # 512 tokens take 0.0612 s, and at most 1 % of gaps may be so long.
    assert strict.capacity_per_s()[0] < 0.1 * paced.capacity_per_s()[0]
    lenient = queue(targets=(ClassTargets("chat", 2.0, 0.04, itl="strict", percentile=50.0),))
    assert strict.capacity_per_s()[0] < lenient.capacity_per_s()[0]


def test_a_mean_target_counts_the_mean_and_banks_no_early_first_token():
    mean, alone = (queue(targets=(ClassTargets("chat", ttft_s, 0.03, itl=itl),)).capacity_per_s()[0]
                   for ttft_s, itl in ((2.0, "mean"), (inf, "paced")))
    assert mean == alone
    assert mean > queue(targets=(
        ClassTargets("chat", 2.0, 0.03, itl="strict"),)).capacity_per_s()[0]


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
_PERCENTILES = st.sampled_from((90.0, 99.0, 100.0))
_ENGINES = st.builds(EngineLimits, st.sampled_from((64, 512, 2048)),
                     st.sampled_from((3_000, 100_000)), st.sampled_from((8, 256)),
                     st.booleans(), st.booleans(), st.booleans(),
                     st.sampled_from((0.0, 0.125)))
_STEPS = st.builds(LinearStepTime, st.sampled_from((0.004, 0.01)),
                   st.sampled_from((2e-5, 1e-4)), st.sampled_from((0.0, 1e-9)),
                   st.sampled_from((0.0, 1e-4)), st.sampled_from((0.0, 1e-7)), st.just(EVIDENCE))


@st.composite
def _targets(draw, name):
    ttft_s, e2e_s = sorted((draw(_SECONDS), draw(_SECONDS)))
    return ClassTargets(name, ttft_s, draw(_GAPS), e2e_s, draw(st.sampled_from(ITL_MODES)),
                        draw(_PERCENTILES))


@st.composite
def _queues(draw):
    """A step time, an engine, the arguments of ``mix``, and targets."""
    rows = draw(st.lists(st.tuples(st.integers(50, 2000), st.integers(1, 300)), min_size=2,
                         max_size=5))
    requests = ([row[0] for row in rows], [row[1] for row in rows],
                [i % 2 for i in range(len(rows))], draw(st.sampled_from((0.5, 1.0, 4.0))), 600)
    return (draw(_STEPS), draw(_ENGINES), requests,
            (draw(_targets("a")), draw(_targets("b"))))


def built(model, engine, requests, targets):
    return ReplicaQueue(model, engine, mix(*requests), targets)


_TOLERANCE = 1.0 + 2e-2  # of bisections, and of chunks as whole tokens


@unit_examples(50)
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
    before = built(model, engine, requests, targets).capacity_per_s(count)[0]
    after = built(model, engine, requests, tight).capacity_per_s(count)[0]
    assert after <= before * _TOLERANCE + 1e-5


@unit_examples(50)
@given(_queues(), st.integers(1, 8))
def test_a_faster_step_never_lowers_capacity(parts, count):
    model, engine, requests, targets = parts
    faster = LinearStepTime(*(0.7 * getattr(model, name) for name in (
        "base_s", "prefill_token_s", "work_s", "decode_seq_s", "context_s")), EVIDENCE)
    before = built(model, engine, requests, targets).capacity_per_s(count)[0]
    after = built(faster, engine, requests, targets).capacity_per_s(count)[0]
    assert after * _TOLERANCE + 1e-5 >= before


@unit_examples(50)
@given(_queues(), st.floats(0.01, 20.0), st.integers(1, 8))
def test_quantiles_are_ordered_and_grow_with_the_rate(parts, rate_per_s, count):
    model, engine, requests, targets = parts
    # Who is relegated waits for long and the others for less: there only misses grow.
    one = built(model, replace(engine, relegates=False), requests, targets)
    for index in (0, 1):
        low, high = (one.ttft_quantile_s(index, share, rate_per_s, count) for share in (0.5, 0.99))
        assert 0.0 <= low <= high * _TOLERANCE
        more = one.ttft_quantile_s(index, 0.99, 1.3 * rate_per_s, count)
        assert high <= more * _TOLERANCE + model.base_s
    state = one.operation(rate_per_s)
    if state is not None:
        assert state.gap_quantile_s(0.5) <= state.gap_quantile_s(0.99)


@unit_examples(50)
@given(_queues(), st.integers(1, 8))
def test_capacity_is_where_the_first_miss_is(parts, count):
    one = built(*parts)
    capacity, binding = one.capacity_per_s(count)
    assert capacity <= one.saturation_per_s()
    if capacity > 1e-3:
        # The path is gone over a few times, not to the end: its percentiles are not quite smooth.
        assert one.first_miss(0.95 * capacity, count) is None
        if binding != "throughput":
            assert one.first_miss(1.05 * capacity + 1e-5, count) is not None


@unit_examples(30)
@given(_queues(), st.integers(1, 6))
def test_more_replicas_never_carry_less_each(parts, count):
    one = built(*parts)
    assert one.capacity_per_s(count + 1)[0] * _TOLERANCE + 1e-5 >= one.capacity_per_s(count)[0]


def test_no_prompt_starts_before_its_request_arrives():
    """The longer gaps of the second round must not move the starts that the first round found."""
    targets = (ClassTargets("chat", 1.0, 0.05),)
    engine = replace(PACED, kv_tokens=2_000_000, slack_spend_fraction=0.125)
    one = queue(engine=engine, requests=mix([6000.0, 500.0], 200), targets=targets)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        rate_per_s = share * one.saturation_per_s()
        for count in (1, 30, 130, 1000):
            missed, _ = one.misses(rate_per_s, count)[0]
            assert 0.0 <= missed <= 1.0
