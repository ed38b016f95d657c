"""Speculative decoding on the command line: a fleet file that drafts, and what drafts gain."""

import pytest

TOLD = "speculation: {method: eagle3, tokens: 3, acceptance: [0.8, 0.6, 0.45]}"
FLEET = """\
accelerators: [{name: h100-80gb, count: 4}]
models: [{name: llama-3.1-8b}]
service_classes: [{name: chat, slo: {ttft_s: 2, itl_s: 0.02}}]
traffic: [{lengths: {prompt: {fixed: 256}, output: {fixed: 100}}, rate_per_s: 4, num_requests: 60}]
replicas: [{count: 1, DRAFTS}]
"""


@pytest.fixture
def drafts(folder):
    (folder / "drafts.yaml").write_text(FLEET.replace("DRAFTS", TOLD))
    return folder


def tpot_p50_s(found) -> float:
    return found.json["classes"]["chat"]["latency"]["tpot_s"]["p50"]


def test_a_fleet_that_drafts_gives_tokens_sooner_and_repeats(penstock, drafts):
    fast, again = (penstock("simulate", "drafts.yaml", "--json") for _ in range(2))
    slow = penstock("simulate", "drafts.yaml", "--set", "replicas[0].speculation=null", "--json")
    assert (fast.status, slow.status) == (0, 0)
    assert fast.json["classes"] == again.json["classes"]
    assert 1.5 < tpot_p50_s(slow) / tpot_p50_s(fast) < 2.85
    assert fast.json["classes"]["chat"]["finished"] == 60


def test_drafts_gain_less_in_larger_batches(penstock, drafts):
    found = penstock("lab", "speculate", "drafts.yaml", "--most-seqs", 64, "--json").json
    group, = found["groups"]
    speedups = [row["speedup"] for row in group["batches"]]
    assert [row["decode_seqs"] for row in group["batches"]] == [1, 2, 4, 8, 16, 32, 64]
    assert speedups == sorted(speedups, reverse=True)
    assert 2.0 < speedups[0] < group["tokens_per_turn"] == pytest.approx(2.85)
    assert group["best_by_batch"][0][0] == 1
    assert group["best_by_batch"][-1][1] == 64
    told = penstock("lab", "speculate", "drafts.yaml")
    assert "its speed-up" in told.out
    assert "num_speculative_tokens_per_batch_size: [1, " in told.err


def test_counters_of_a_server_replace_the_acceptance(penstock, drafts):
    (drafts / "metrics.txt").write_text(
        "vllm:spec_decode_num_drafts_total 1000\n" + "".join(
            f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{position="{i}"}} {num}\n'
            for i, num in enumerate((500, 200, 100))))
    group, = penstock("lab", "speculate", "drafts.yaml", "--counters", "metrics.txt",
                      "--json").json["groups"]
    assert group["acceptance"] == [0.5, 0.2, 0.1]
    assert group["low"][0] < 0.5 < group["high"][0]
    missing = penstock("lab", "speculate", "drafts.yaml", "--counters", "none.txt")
    assert missing.status == 2
    assert "none.txt: cannot be read" in missing.err


def test_a_plan_takes_the_stated_drafts(penstock, drafts):
    found = penstock("plan", "drafts.yaml", "--json")
    assert found.status == 0
    assert "speculation" in str(found.json)


@pytest.mark.parametrize(("arguments", "said"), [
    (("lab", "speculate", "fleet.yaml"), "fleet.yaml: replicas: none has the key speculation"),
    (("emulate", "drafts.yaml"), "an emulated engine gives one token a step"),
    (("capacity", "drafts.yaml", "--method", "bound"),
     "the throughput bound does not cover speculative decoding"),
    (("simulate", "drafts.yaml", "--set", "replicas[0].speculation.acceptance=null"),
     "none is published for eagle3 with llama-3.1-8b"),
])
def test_what_cannot_be_is_one_line(penstock, drafts, arguments, said):
    found = penstock(*arguments)
    assert found.status == 2
    assert said in found.err
    assert "Traceback" not in found.err
