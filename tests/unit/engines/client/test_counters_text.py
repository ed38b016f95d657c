"""Counters of engines from Prometheus text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.engines.client.counters_text import Distribution, read_counters
from penstock.engines.server.metrics import EngineMetrics
from penstock.policy.scale.values import E2E_BOUNDS_S, TPOT_BOUNDS_S, TTFT_BOUNDS_S, bucket

SGLANG = b"""\
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{model_name="m"} 120.0
sglang:generation_tokens_total{model_name="m"} 7.0
sglang:num_requests_total{model_name="m"} 3.0
sglang:cached_tokens_total{model_name="m"} 64.0
sglang:time_to_first_token_seconds_bucket{le="0.1",model_name="m"} 1.0
sglang:time_to_first_token_seconds_bucket{le="+Inf",model_name="m"} 3.0
sglang:time_to_first_token_seconds_sum{model_name="m"} 5.5
sglang:time_to_first_token_seconds_count{model_name="m"} 3.0
"""


@given(st.lists(st.tuples(st.integers(1, 4000), st.floats(0.0001, 3000.0), st.floats(0.001, 90.0)),
                max_size=20))
def test_the_counters_of_an_engine_are_read_as_it_counts(answers):
    metrics = EngineMetrics("m")
    ttft, tpot = [0] * (len(TTFT_BOUNDS_S) + 1), [0] * (len(TPOT_BOUNDS_S) + 1)
    for prompt_tokens, first_s, gap_s in answers:
        metrics.first_token(prompt_tokens, first_s, 0.0)
        metrics.next_token(gap_s)
        metrics.ended("stop", first_s + gap_s)
        ttft[bucket(TTFT_BOUNDS_S, first_s)] += 1
        tpot[bucket(TPOT_BOUNDS_S, gap_s)] += 1
    found = read_counters(metrics.text())
    assert found.num_finished == len(answers)
    assert found.prompt_tokens == sum(prompt for prompt, _, _ in answers)
    assert found.output_tokens == 2 * len(answers)
    assert found.ttft.counts(TTFT_BOUNDS_S) == tuple(ttft)
    assert found.tpot.counts(TPOT_BOUNDS_S) == tuple(tpot)
    assert sum(found.e2e.counts(E2E_BOUNDS_S)) == len(answers)
    assert found.ttft.sum_s == pytest.approx(sum(first for _, first, _ in answers))


def test_other_names_and_several_engines_in_one_text():
    one = read_counters(SGLANG)
    assert (one.num_finished, one.prompt_tokens, one.output_tokens, one.cached_tokens) == (
        3, 120, 7, 64)
    assert one.ttft.sum_s == 5.5
    assert one.ttft.counts((0.05, 0.1)) == (0, 1, 2)
    both = read_counters(SGLANG + SGLANG.replace(b'"m"', b'"n"'))
    assert (both.prompt_tokens, both.ttft.counts((0.1,))) == (240, (2, 4))


def test_an_older_name_counts_where_the_newer_is_missing():
    text = b'vllm:time_per_output_token_seconds_bucket{le="0.5"} 4\n'
    assert read_counters(text).tpot.counts((0.5,)) == (4, 0)
    newer = text + b'vllm:inter_token_latency_seconds_bucket{le="0.5"} 9\n'
    assert read_counters(newer).tpot.counts((0.5,)) == (9, 0)


@pytest.mark.parametrize("text", [b"", b"up 1\n", b"vllm:num_requests_running 3\n",
                                  b"vllm:prompt_tokens_total nan\n",
                                  b"vllm:prompt_tokens_total -1\n", b"\xff\x00"])
def test_a_text_without_counters_is_missing_not_zero(text):
    assert read_counters(text) is None


def test_a_bucket_across_a_bound_counts_late():
    assert Distribution({1.0: 2.0, 3.0: 5.0}, 0.0).counts((1.0, 2.0, 4.0)) == (2, 0, 3, 0)
