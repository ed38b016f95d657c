import numpy as np
import pytest

from penstock.workload.readers import read_trace
from penstock.workload.stats import trace_stats
from penstock.workload.trace import Prefixes, Trace, no_prefixes


def trace(times, prompt, output, prefixes=None) -> Trace:
    return Trace(None if times is None else np.array(times, float), np.array(prompt),
                 np.array(output), None, None, None, prefixes or no_prefixes())


def test_azure_code_row_of_the_table(shared_data):
    stats = trace_stats(read_trace(shared_data / "traces" / "azure2023_code.csv.gz"))
    assert stats.num_requests == 8819
    assert stats.duration_s / 3600 == pytest.approx(0.95, abs=0.005)
    assert stats.rate_per_s == pytest.approx(2.57, abs=0.005)
    assert stats.gap_cv == pytest.approx(13.15, abs=0.005)
    assert stats.gap_cv_within_minute == pytest.approx(3.16, abs=0.005)
    assert stats.peak_minute_per_s == pytest.approx(10.5, abs=0.05)
    prompt, output = stats.prompt, stats.output
    assert [round(x) for x in (prompt.mean, prompt.p50, prompt.p90, prompt.p99)] == [
        2048, 1469, 5188, 7436]
    assert [round(output.mean, 1), output.p50, output.p90, round(output.p99)] == [
        27.9, 13, 55, 251]
    assert stats.spearman == pytest.approx(-0.02, abs=0.005)
    assert stats.prefix_reuse is None


def test_mooncake_conversation_row_of_the_table(shared_data):
    path = shared_data / "traces" / "mooncake_conversation_with_hash_ids.jsonl.gz"
    stats = trace_stats(read_trace(path, spread_steps=False))
    assert stats.num_requests == 12031
    assert stats.rate_per_s == pytest.approx(3.40, abs=0.005)
    assert stats.gap_cv == pytest.approx(3.03, abs=0.005)
    assert stats.gap_cv_within_minute == pytest.approx(3.13, abs=0.005)
    assert stats.peak_minute_per_s == pytest.approx(4.1, abs=0.05)
    prompt, output = stats.prompt, stats.output
    assert [round(x) for x in (prompt.mean, prompt.p50, prompt.p90, prompt.p99)] == [
        12035, 6909, 27367, 85400]
    assert [round(x) for x in (output.mean, output.p50, output.p90)] == [343, 350, 597]
    assert output.p99 == pytest.approx(1119, abs=1)
    assert stats.spearman == pytest.approx(0.07, abs=0.005)
    assert stats.prefix_reuse == pytest.approx(0.374, abs=0.0005)


def test_sharegpt_lengths(shared_data):
    name = "sharegpt_8k_filtered_stats_llama2_tokenizer.csv"
    stats = trace_stats(read_trace(shared_data / "niyama" / name))
    prompt, output = stats.prompt, stats.output
    assert [round(x) for x in (prompt.mean, prompt.p50, prompt.p90, prompt.p99, prompt.max)] == [
        2340, 1730, 5696, 7434, 8141]
    assert [round(x) for x in (output.mean, output.p50, output.p90, output.max)] == [
        439, 415, 834, 1024]
    assert stats.rate_per_s is None
    assert stats.gap_cv is None


def test_spearman_by_hand():
    assert trace_stats(trace([0, 1, 2], [1, 2, 3], [1, 4, 9])).spearman == pytest.approx(1.0)
    assert trace_stats(trace([0, 1, 2], [1, 2, 3], [9, 4, 1])).spearman == pytest.approx(-1.0)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = trace_stats(trace([0, 1, 2, 3], [1, 5, 5, 7], [1, 2, 3, 4])).spearman
    assert tied == pytest.approx(0.9486832980505138)
    assert trace_stats(trace([0, 1], [5, 5], [1, 2])).spearman is None


def test_prefix_reuse_counts_a_part_filled_block_once():
    prefixes = Prefixes(np.array([0, 2, 4, 6]), np.array([0, 1, 0, 2, 0, 1]), 10)
    stats = trace_stats(trace([0, 1, 2], [20, 20, 15], [1, 1, 1], prefixes))
    # Row 2 finds block 0; row 3 finds both of its blocks, which hold only 15 tokens.
    assert stats.prefix_reuse == pytest.approx((10 + 15) / 55)


def test_single_request_and_equal_times():
    one = trace_stats(trace([5.0], [3], [4]))
    assert (one.num_requests, one.duration_s, one.rate_per_s, one.gap_cv) == (1, 0.0, None, None)
    assert trace_stats(trace([5.0, 5.0], [3, 3], [4, 4])).gap_cv is None
    assert one.prompt.p99 == 3
