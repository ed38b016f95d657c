from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import InputError
from penstock.core.slo import ServiceClass
from penstock.workload.arrivals import ArrivalProcess, constant, gamma, poisson
from penstock.workload.lengths import LengthDistribution, QuantileTable
from penstock.workload.mixing import generate, scale_rate
from penstock.workload.profile import square_wave
from penstock.workload.requests import requests
from penstock.workload.source import TrafficSource
from penstock.workload.trace import Labels, Prefixes, Trace, no_prefixes, workload_trace
from penstock.workload.workload import Workload
from support.scaled_examples import unit_examples

LENGTHS = LengthDistribution(QuantileTable((0.0, 1.0), (1.0, 4000.0)),
                             QuantileTable((0.0, 1.0), (1.0, 300.0)))
TRACE = Trace(
    np.array([0.0, 1.0, 3.0]), np.array([10, 700, 30]), np.array([4, 5, 6]),
    Labels(("chat", "batch"), np.array([0, 1, 0])), None, Labels(("m",), np.zeros(3, np.int64)),
    Prefixes(np.array([0, 1, 3, 4]), np.array([0, 0, 1, 0]), 512))


def synthetic(name: str = "s", **changes) -> TrafficSource:
    source = TrafficSource(name, "m", {"chat": 1.0, "batch": 3.0}, arrivals=poisson(),
                           lengths=LENGTHS, rate_per_s=2.0, num_requests=50)
    return replace(source, **changes)


@st.composite
def sources(draw: st.DrawFn, name: str = "s") -> TrafficSource:
    shares = st.dictionaries(st.sampled_from(["chat", "batch", "code"]), st.floats(0.1, 5),
                             min_size=1)
    process = draw(st.sampled_from([poisson(), poisson(8), gamma(2.5), constant(),
                                    ArrivalProcess(1.0, square_wave(1, 4, 5, 5))]))
    bound = draw(st.sampled_from([{"num_requests": 40}, {"duration_s": 30.0},
                                  {"num_requests": 7, "duration_s": 5.0}]))
    return TrafficSource(name, draw(st.sampled_from(["m", "n"])), draw(shares), draw(shares),
                         arrivals=process, lengths=LENGTHS, rate_per_s=draw(st.floats(0.2, 9)),
                         start_s=draw(st.floats(0, 20)), **bound)


SEEDS = st.integers(0, 2**40)


def rows_of(workload: Workload) -> list[tuple]:
    def named(names, index):
        return [names[place] for place in index]
    return list(zip(
        workload.arrival_s.tolist(), workload.prompt_tokens.tolist(),
        workload.output_tokens.tolist(), workload.max_tokens.tolist(),
        named(workload.models, workload.model_index),
        named(workload.service_classes, workload.class_index),
        named(workload.tenants, workload.tenant_index), strict=True))


def check_shape(workload: Workload) -> None:
    num = len(workload)
    assert (np.diff(workload.arrival_s) >= 0).all()
    assert (workload.arrival_s >= 0).all()
    assert (workload.output_tokens <= workload.max_tokens).all()
    assert min(workload.prompt_tokens.min(initial=1), workload.output_tokens.min(initial=1)) == 1
    for column in fields(workload):
        values = getattr(workload, column.name)
        if isinstance(values, np.ndarray) and not column.name.startswith("hash"):
            assert len(values) == num
            assert values.dtype == (np.float64 if column.name == "arrival_s" else np.int64)


@given(first=sources("a"), second=sources("b"), seed=SEEDS)
@unit_examples(40)
def test_mixing_conserves_every_source(first, second, seed):
    alone = rows_of(generate([first], seed)) + rows_of(generate([second], seed))
    mixed = generate([first, second], seed)
    check_shape(mixed)
    assert sorted(rows_of(mixed)) == sorted(alone)
    assert rows_of(mixed) == rows_of(generate([first, second], seed))
    assert sorted(rows_of(generate([second, first], seed))) == sorted(alone)


@given(source=sources(), seed=SEEDS, factor=st.floats(0.1, 10))
@unit_examples(40)
def test_rate_changes_times_alone(source, seed, factor):
    source = replace(source, num_requests=30, duration_s=None, start_s=0.0)
    slow = generate([source], seed)
    fast = generate([replace(source, rate_per_s=source.rate_per_s * factor)], seed)
    for column in ("prompt_tokens", "output_tokens", "class_index", "tenant_index", "max_tokens"):
        np.testing.assert_array_equal(getattr(slow, column), getattr(fast, column))
    np.testing.assert_array_equal(scale_rate(slow, factor).prompt_tokens, slow.prompt_tokens)
    np.testing.assert_allclose(scale_rate(slow, factor).arrival_s * factor, slow.arrival_s)
    if source.arrivals.profile == poisson().profile:
        np.testing.assert_allclose(fast.arrival_s, scale_rate(slow, factor).arrival_s, rtol=1e-9)


@given(source=sources(), seed=SEEDS)
@unit_examples(20)
def test_streams_of_one_purpose_leave_the_others_alone(source, seed):
    base = generate([replace(source, num_requests=30, duration_s=None)], seed)
    others = replace(source, num_requests=30, duration_s=None, mix={"x": 1, "y": 1, "z": 1},
                     arrivals=gamma(1.7), max_tokens=9000)
    changed = generate([others], seed)
    np.testing.assert_array_equal(base.prompt_tokens, changed.prompt_tokens)
    np.testing.assert_array_equal(base.tenant_index, changed.tenant_index)


def test_seeds_and_names_differ():
    base = generate([synthetic()], 1)
    assert not np.array_equal(base.arrival_s, generate([synthetic()], 2).arrival_s)
    assert not np.array_equal(base.arrival_s, generate([synthetic("t")], 1).arrival_s)


def test_draws_of_this_version_stay_what_they_are():
    # A change here changes every published result: bump the version and say so.
    workload = generate([synthetic()], 42)
    assert workload.prompt_tokens[:4].tolist() == [3, 25, 1158, 586]
    np.testing.assert_allclose(workload.arrival_s[:3],
                               [0.302437177877036, 0.403092159881095, 1.19319860841546],
                               rtol=1e-12)


def test_classes_come_by_share():
    workload = generate([synthetic(num_requests=40_000)], 3)
    share = np.mean(workload.class_index == workload.service_classes.index("chat"))
    assert share == pytest.approx(0.25, abs=0.01)
    never = generate([synthetic(mix={"a": 0.0, "b": 1.0, "c": 0.0}, num_requests=2000)], 3)
    assert set(never.class_index) == {1}


def test_max_tokens_is_one_number_that_covers_every_output():
    assert set(generate([synthetic()], 1).max_tokens) == {300}
    assert set(generate([synthetic(max_tokens=50)], 1).max_tokens) == {300}
    assert set(generate([synthetic(max_tokens=512)], 1).max_tokens) == {512}


def test_replay_of_a_trace():
    workload = generate([TrafficSource("t", trace=TRACE)], 0)
    check_shape(replace(workload, prompt_tokens=np.minimum(workload.prompt_tokens, 1)))
    assert workload.arrival_s.tolist() == [0.0, 1.0, 3.0]
    assert workload.service_classes == ("chat", "batch")
    assert workload.models == ("m",)
    assert workload.tenants == ("default",)
    assert workload.hash_values.tolist() == [0, 0, 1, 0]
    faster = generate([TrafficSource("t", trace=TRACE, rate_per_s=2.0, start_s=5.0)], 0)
    assert faster.arrival_s.tolist() == [5.0, 5.5, 6.5]


def test_repeated_trace_keeps_rate_and_shares_no_prefix_between_rounds():
    workload = generate([TrafficSource("t", trace=TRACE, num_requests=7)], 0)
    assert workload.arrival_s.tolist() == [0.0, 1.0, 3.0, 4.5, 5.5, 7.5, 9.0]
    assert workload.prompt_tokens.tolist() == [10, 700, 30, 10, 700, 30, 10]
    assert workload.hash_values.tolist() == [0, 0, 1, 0, 2, 2, 3, 2, 4]
    assert len(generate([TrafficSource("t", trace=TRACE, num_requests=2)], 0)) == 2


@pytest.mark.parametrize(("duration_s", "expected"), [
    (0.5, 1), (1.0, 2), (3.0, 3), (4.4, 3), (4.5, 4), (9.0, 7), (100.0, 68)])
def test_replay_up_to_a_duration(duration_s, expected):
    source = TrafficSource("t", trace=TRACE, duration_s=duration_s)
    assert len(generate([source], 0)) == expected


def test_trace_rows_with_drawn_times():
    source = TrafficSource("t", trace=TRACE, arrivals=constant(), rate_per_s=2.0)
    workload = generate([source], 0)
    assert workload.arrival_s.tolist() == [0.5, 1.0, 1.5]
    shuffled = generate([replace(source, shuffle_rows=True, num_requests=300)], 0)
    # Hashes go with their rows: two for the long prompt, one for the others.
    counts = np.diff(shuffled.hash_offsets)
    np.testing.assert_array_equal(counts, np.where(shuffled.prompt_tokens == 700, 2, 1))
    assert sorted(shuffled.prompt_tokens[:3]) == [10, 30, 700]


def test_merged_prefixes_stay_with_their_requests():
    replay = TrafficSource("t", trace=TRACE)
    other = TrafficSource("u", trace=TRACE, start_s=0.5)
    workload = generate([replay, synthetic(num_requests=4), other], 0)
    counts = np.diff(workload.hash_offsets)
    traced = workload.hash_offsets[:-1][counts > 0]
    np.testing.assert_array_equal(counts.sum(), 8)
    firsts = workload.hash_values[traced]
    assert sorted(firsts.tolist()) == [0, 0, 0, 2, 2, 2]
    assert workload.hash_block_tokens == 512


def test_requests_carry_what_a_live_system_sees():
    workload = generate([TrafficSource("t", trace=TRACE, tenants={"acme": 1})], 0)
    classes = {name: ServiceClass(name) for name in ("chat", "batch", "other")}
    made = list(requests(workload, classes))
    assert [request.request_id for request in made] == [0, 1, 2]
    assert made[1].service_class is classes["batch"]
    assert made[1].prefix_hashes == (0, 1)
    assert made[1].hash_block_tokens == 512
    assert (made[2].arrival_s, made[2].prompt_tokens, made[2].max_tokens) == (3.0, 30, 6)
    assert (made[2].model, made[2].tenant) == ("m", "acme")
    assert all(type(value) in (int, float) for value in made[0][:4])


def test_requests_span_blocks_in_order():
    workload = generate([synthetic(num_requests=40_000)], 0)
    classes = {name: ServiceClass(name) for name in ("chat", "batch")}
    made = list(requests(workload, classes))
    assert [request.request_id for request in made] == list(range(40_000))
    assert [request.prompt_tokens for request in made] == workload.prompt_tokens.tolist()
    assert made[-1].prefix_hashes == ()
    assert made[20_000].service_class.name == workload.service_classes[workload.class_index[20_000]]


def test_undefined_class_is_named_before_the_first_request():
    with pytest.raises(InputError, match="class 'batch', which is not defined; did you mean 'bat"):
        requests(generate([synthetic()], 0), {"chat": ServiceClass("chat"),
                                              "batsh": ServiceClass("batsh")})


def test_a_workload_replays_as_a_trace():
    workload = generate([synthetic(), synthetic("t", rate_per_s=5.0)], 9)
    source = TrafficSource("t", trace=workload_trace(workload), max_tokens=300)
    again = generate([source], 0)
    assert rows_of(again) == rows_of(workload)


def test_duration_too_short_for_any_request():
    assert len(generate([synthetic(num_requests=None, duration_s=1e-9)], 0)) == 0


FLAT = Trace(np.zeros(2), np.ones(2, np.int64), np.ones(2, np.int64), None, None, None,
             no_prefixes())


@pytest.mark.parametrize(("traffic", "said"), [
    ([], "no traffic sources"),
    ([synthetic(), synthetic()], "two traffic sources are named 's'"),
    ([synthetic(mix={"a": -1.0})], "mix gives 'a' a share of -1"),
    ([synthetic(tenants={"a": 0.0})], "every share of tenants is 0"),
    ([synthetic(lengths=None)], "neither lengths nor a trace"),
    ([synthetic(arrivals=None)], "neither an arrival process nor a trace"),
    ([synthetic(rate_per_s=None)], "needs rate_per_s"),
    ([synthetic(rate_per_s=-2.0)], "rate_per_s is -2"),
    ([synthetic(num_requests=None)], "neither num_requests nor duration_s"),
    ([synthetic(num_requests=0)], "num_requests is 0"),
    ([synthetic(start_s=-1.0)], "start_s is -1"),
    ([TrafficSource("t", trace=FLAT, num_requests=3)], "spans no time"),
    ([TrafficSource("t", trace=TRACE),
      TrafficSource("u", trace=replace(TRACE, prefixes=replace(TRACE.prefixes, block_tokens=16)))],
     r"blocks of \[16, 512\] tokens"),
])
def test_bad_sources(traffic, said):
    with pytest.raises(InputError, match=said):
        generate(traffic, 0)


def test_bad_seed_and_factor():
    with pytest.raises(InputError, match="seed is -1"):
        generate([synthetic()], -1)
    with pytest.raises(InputError, match="rate factor is 0"):
        scale_rate(generate([synthetic()], 0), 0.0)
