"""A deployment's whole life on a real engine: profile, estimate, deploy, infer, remove.

The engine is llama.cpp on a CPU with a model of a few layers, which is profiled in cuts and whole.
How far off the estimate is, is printed and not judged: what a server adds to each step is no part
of a profile, and most of what so small a model takes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FLEET = """\
name: cpu
catalog: cpu.yaml
accelerators: [{name: cpu, count: 1}]
models: [{name: tiny, config: tiny/config.json, precisions: [fp16]}]
service_classes: [{name: all, slo: {e2e_s: 60}}]
traffic: [{rate_per_s: 1, num_requests: 1,
           lengths: {prompt: {fixed: 8}, output: {fixed: 8}}}]
"""
CATALOG = """\
accelerators:
  cpu: {vendor: test, memory_gib: 4, bandwidth_gb_per_s: 20, peak_tflops: {fp16: 0.1, fp32: 0.1},
        power_w: 50, pcie_gb_per_s: 16, price_per_hour: 0.1, source: a guess}
"""
LAYERS, VOCABULARY = 4, 269


@pytest.fixture
def penstock(tmp_path: Path, tiny_gguf_file: Path):
    """Calls the command line in a folder with a model of four layers."""
    from tiny_gguf import tiny_gguf

    tiny_gguf(tmp_path / "tiny.gguf", layers=LAYERS)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "cpu.yaml").write_text(CATALOG)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text(json.dumps({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": LAYERS,
        "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 128, "vocab_size": VOCABULARY, "max_position_embeddings": 4096}))

    def call(*arguments: str) -> dict:
        done = subprocess.run([sys.executable, "-m", "penstock", "deployments", *arguments],
                              cwd=tmp_path, capture_output=True, text=True, timeout=300,
                              check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if "--json" in arguments else {}

    yield call
    for one in call("list", "--json")["deployments"]:
        if one["state"] == "running":
            call("remove", one["name"], "--cancel")


@pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")
def test_llamacpp_from_profile_to_removal(penstock, capsys: pytest.CaptureFixture[str]) -> None:
    penstock("init", "fleet.yaml")
    penstock("register", "tiny", "--model", "tiny", "--engine", "llamacpp", "--with",
             "model=tiny.gguf", "--with", "threads=1", "--with", "kv_tokens=4096")
    one = penstock("profile", "tiny", "--precision", "fp16", "--with", "threads=1",
                   "--depths", str(LAYERS), "--budget-s", "60", "--json")
    assert one["state"] == "profiled"
    done = penstock("deploy", "tiny", "--intent", "min_lat", "--output-tokens", "64", "--json")
    one, chosen = done["deployment"], done["decision"]["chosen"]
    assert (one["state"], one["configuration"]) == ("running", "tp1 pp1 fp16 kv fp16")
    assert chosen["layers_by_stage"] == [LAYERS]
    assert 0 < chosen["latency_s"]["low"] < chosen["latency_s"]["value"] < \
        chosen["latency_s"]["high"]
    replies = [penstock("infer", "tiny", "the water falls through the gate", "--max-tokens", "64",
                        "--temperature", "0", "--json") for _ in range(3)]
    assert len({reply["text"] for reply in replies}) == 1
    assert 0 < replies[0]["output_tokens"] <= 64
    assert replies[0]["prompt_tokens"] > 0
    assert not replies[0]["simulated"]
    with capsys.disabled():
        tokens = replies[0]["output_tokens"]
        took_s = min(reply["service_s"] for reply in replies)
        estimated_s = chosen["latency_s"]["value"]
        sys.stdout.write(f"\nllama.cpp: 64 tokens estimated {estimated_s:.4f} s, "
                         f"{tokens} took {took_s:.4f} s\n")
    penstock("remove", "tiny")
    events = penstock("events", "tiny", "--json")["events"]
    assert [event["state"] for event in events] == [
        "registered", "profiling", "profiled", "deploying", "running", "removing", "removed"]
