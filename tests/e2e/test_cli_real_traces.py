"""The command line on recorded traffic."""

import numpy as np
import pyarrow.parquet as pq
import pytest

FLEET = """\
name: recorded
accelerators: [{{name: a100-80gb}}]
models: [{{name: llama-3.1-8b}}]
service_classes:
  - {{name: chat, slo: {{ttft_s: 6, itl_s: 0.05}}}}
  - {{name: batch, priority: 3, slo: {{e2e_s: 600}}}}
traffic:
  - mix: {{chat: 0.6, batch: 0.4}}
    trace: {{file: {file}, {more}}}
{traffic}
policies: {{schedule: penstock, route: least_loaded}}
"""


@pytest.fixture
def recorded(penstock, folder, shared_data):
    """Runs a command on a fleet whose traffic is a file of the shared data."""
    def call(command, file, *arguments, more="arrivals: own", traffic=""):
        (folder / "recorded.yaml").write_text(
            FLEET.format(file=file, more=more, traffic=traffic))
        return penstock(command, "recorded.yaml", "--data", shared_data, "--json", *arguments)

    return call


def columns(folder, *names):
    table = pq.read_table(folder / "runs/recorded/requests.parquet")
    return [table.column(name).to_numpy() for name in names]


def test_the_whole_code_trace_at_its_own_times(recorded, penstock, folder, shared_data):
    file = shared_data / "traces/azure2023_code.csv.gz"
    found = recorded("simulate", file, "--replicas", 2).json
    stats = penstock("trace", "info", file, "--json").json
    assert found["overall"]["received"] == found["overall"]["finished"] == stats["num_requests"]
    arrival, prompt, output, first, last, scheduled = columns(
        folder, "arrival_s", "prompt_tokens", "output_tokens", "first_token_s", "last_token_s",
        "first_scheduled_s")
    assert arrival[-1] - arrival[0] == pytest.approx(stats["duration_s"])
    assert prompt.mean() == pytest.approx(stats["prompt"]["mean"])
    assert output.mean() == pytest.approx(stats["output"]["mean"])
    assert (arrival <= scheduled).all()
    assert (scheduled < first).all()
    assert (first <= last).all()
    assert ((last > first) == (output > 1)).all()


@pytest.mark.long
def test_the_conversation_trace_at_other_rates(recorded, folder):
    file = "traces/azure2023_conv_first_half.csv.gz"
    own = recorded("simulate", file, "--replicas", 2, "--no-report").json
    times, prompts = columns(folder, "arrival_s", "prompt_tokens")
    faster = recorded("simulate", file, "--replicas", 2, "--no-report", more="scale: 2").json
    scaled, same = columns(folder, "arrival_s", "prompt_tokens")
    assert np.allclose(scaled * 2, times)
    assert (same == prompts).all()
    slow, fast = (run["overall"]["latency"]["ttft_s"]["p90"] for run in (own, faster))
    assert fast > slow


def test_mooncake_with_prefix_caching(recorded, penstock, shared_data):
    file = "traces/mooncake_conversation_with_hash_ids.jsonl.gz"
    runs = [recorded("simulate", file, "--replicas", 6, "--no-report", "--set",
                     f"engine.prefix_caching={flag}", "--set", "run.beliefs=exact",
                     more="arrivals: own, num_requests: 800").json for flag in ("true", "false")]
    cached, plain = runs
    reuse = penstock("trace", "info", shared_data / file, "--json").json["prefix_reuse"]
    assert 0.02 < cached["prefix_hit_rate"] < reuse
    assert plain["prefix_hit_rate"] is None
    assert cached["overall"]["latency"]["ttft_s"]["p50"] < \
        plain["overall"]["latency"]["ttft_s"]["p50"]


def test_lengths_of_sharegpt_with_drawn_arrivals(recorded, folder, shared_data):
    found = recorded(
        "simulate", "niyama/sharegpt_8k_filtered_stats_llama2_tokenizer.csv", "--replicas", 2,
        "--no-report", more="arrivals: poisson, shuffle: true",
        traffic="    rate_per_s: 4\n    num_requests: 1200").json
    assert found["overall"]["received"] == 1200
    assert found["overall"]["received_requests_per_s"] == pytest.approx(4, rel=0.15)
    (arrival,) = columns(folder, "arrival_s")
    gaps = np.diff(arrival)
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.12)


def test_a_trace_without_times_needs_an_arrival_process(recorded):
    outcome = recorded("simulate", "niyama/sharegpt_8k_filtered_stats_llama2_tokenizer.csv",
                       "--replicas", 2)
    assert outcome.status == 2
    assert outcome.err.count("\n") == 1
    assert "arriv" in outcome.err


def test_capacity_on_a_recorded_trace(recorded):
    found = recorded("capacity", "traces/azure2023_code.csv.gz", "--replicas", 1, "--tolerance",
                     0.1, more="arrivals: own, num_requests: 600").json
    assert 0 < found["rate_per_s"] < found["bound_per_s"]


def test_every_mooncake_prompt_too_long_for_the_context_is_told(recorded):
    outcome = recorded("simulate", "traces/mooncake_conversation.csv.gz", "--replicas", 1,
                       "--set", "models[0].max_context_tokens=100000")
    assert outcome.status == 2
    assert "the context of llama-3.1-8b is 100,000" in outcome.err
