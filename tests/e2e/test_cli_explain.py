"""``penstock catalog explain``: own models, kernel tables, a simulation's own time."""

import json
import math

import pyarrow.parquet as pq
import pytest

from support.kernel_tables import write_tables

CONFIG = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 1024,
          "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64,
          "intermediate_size": 2048, "vocab_size": 4096, "max_position_embeddings": 8192}
CHIP = """\
accelerators:
  my-chip: {vendor: acme, memory_gib: 48, bandwidth_gb_per_s: 900, peak_tflops: {fp16: 200,
            bf16: 200, int8: 400}, power_w: 150, pcie_gb_per_s: 32, price_per_hour: 0.7,
            source: datasheet}
"""


@pytest.fixture
def explained(penstock):
    def call(*arguments):
        outcome = penstock("catalog", "explain", *arguments, "--json")
        assert outcome.status == 0, outcome.err
        found = outcome.json
        assert math.fsum(part["seconds"] for part in found["parts"]) == pytest.approx(
            found["total_s"], rel=1e-9)
        assert found["simulated_s"] == pytest.approx(found["total_s"], rel=1e-3)
        return found
    return call


@pytest.mark.parametrize("engine", [None, "vllm"])
def test_a_simulated_step_takes_the_explained_time(explained, penstock, folder, engine):
    """The first token of the only request comes after one step of its whole prompt."""
    own = ["--set", "policies={route: least_loaded}", "--set", f"engine.name={engine}"]
    run = penstock("simulate", "fleet.yaml", "--no-report", "--out", "one",
                   *(own if engine else []), "--set", "traffic=[{lengths: {prompt: {fixed: 400}, "
                   "output: {fixed: 1}}, mix: {chat: 1}, rate_per_s: 1, num_requests: 1}]")
    assert run.status == 0, run.err
    (row,) = pq.read_table(folder / "one/requests.parquet").to_pylist()
    stated = ["--engine", engine] if engine else ["--step-time", "roofline"]
    found = explained("llama-3-8b", "--gpu", "a100-80gb", *stated, "--prefill", 400)
    took_s = row["first_token_s"] - row["first_scheduled_s"]
    assert took_s == pytest.approx(found["simulated_s"], abs=2e-9)


def test_your_own_model_on_your_own_chip(explained, penstock, folder):
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "mine.yaml").write_text(CHIP)
    found = explained("./config.json", "--gpu", "my-chip", "--catalog", "mine.yaml",
                      "--precision", "int8", "--decodes", 8, "--step-time", "roofline")
    assert found["accelerator"] == "my-chip"
    out = next(part for part in found["parts"] if part["name"] == "output projection")
    assert out["bytes"] == 4 * 1024 * 1024
    assert "no measurement of my-chip" in found["source"]


def test_a_step_of_usual_size_where_none_is_stated(penstock):
    outcome = penstock("catalog", "explain", "llama-3-8b", "--gpu", "h100-80gb")
    assert outcome.out.startswith("llama-3-8b on h100-80gb, bf16, KV bf16: 512 prompt tokens and 64"
                                  " decodes at 1,024 tokens\n")
    assert "One pass computes all tokens in" in outcome.out
    assert "step time: kind measured, engine vllm, version" in outcome.out


def test_kernel_tables_are_told_whole_beside_their_compact_form(explained, folder):
    write_tables(folder / "tables")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    step = ("config.json", "--gpu", "a100-80gb", "--prefill", 128, "--decodes", 16)
    spec = "{kind: kernels, path: tables, system: toy"
    whole = explained(*step, "--step-time", spec + "}")
    assert whole["by_operation"]
    assert whole["compact_s"] == pytest.approx(whole["total_s"], rel=0.2)
    assert whole["compact_s"] != whole["total_s"]
    exact = explained(*step, "--step-time", spec + ", exact: true}")
    assert exact["compact_s"] is None
    assert exact["total_s"] == whole["total_s"]
    compact = explained(*step, "--step-time", spec + ", exact: false}")
    assert not compact["by_operation"]
    assert compact["total_s"] == whole["compact_s"]


def test_a_folder_of_tables_is_a_step_time(explained, folder):
    write_tables(folder / "tables", "a100_sxm")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    found = explained("config.json", "--gpu", "a100-80gb", "--tensor", 2, "--prefill", 512,
                      "--past", 100, "--step-time", "tables")
    sources = {part["name"]: part["source"] for part in found["parts"]}
    assert sources["QKV projection"].startswith("a100_sxm_vllm1.0_gemm.csv.gz: n 768, k 1024, 512")


@pytest.mark.parametrize(("arguments", "words"), [
    (("llama-3-9b", "--gpu", "h100"), "MODEL: unknown model 'llama-3-9b'; did you mean"),
    (("llama-3-8b", "--gpu", "h1000"), "--gpu: unknown accelerator 'h1000'"),
    (("llama-3-8b",), "missing option '--gpu'"),
    (("llama-3-8b", "--gpu", "h100", "--tensor", 3), "--tensor: 3 ranks do not divide the 32"),
    (("llama-3-8b", "--gpu", "h100", "--data-parallel", 2), "--data-parallel: llama-3-8b has no"),
    (("mixtral-8x7b", "--gpu", "h100", "--tensor", 2, "--expert-parallel", 3),
     "--expert-parallel: 3; expected a divisor"),
    (("llama-3-70b", "--gpu", "h100"), "model does not fit: llama-3-70b in bf16 on"),
    (("llama-3-8b", "--gpu", "h100", "--prefill", 9000), "a sequence of 9,000 tokens"),
    (("llama-3-8b", "--gpu", "h100", "--decodes", 900, "--context", 8000), "the step does not fit"),
    (("llama-3-8b", "--gpu", "h100", "--prefill", 0), "the step has no tokens"),
    (("llama-3-8b", "--gpu", "h100", "--past", 9, "--decodes", 1), "--past: of which prompt?"),
    (("llama-3-8b", "--gpu", "h100", "--precision", "fp9"), "--precision: 'fp9' is unknown"),
    (("llama-3-8b", "--gpu", "h100", "--kv-precision", "fp9"), "--kv-precision: 'fp9' is unknown"),
    (("llama-3-8b", "--gpu", "h100", "--step-time", "roof"), "--step-time: 'roof' is unknown"),
    (("llama-3-8b", "--gpu", "h100", "--step-time", "[1]"), "--step-time: '[1]'; expected a name"),
    (("llama-3-8b", "--gpu", "h100", "--step-time", "{kind: roofline, hosts: 1}"),
     "--step-time: unknown key 'hosts' for roofline"),
    (("llama-3-8b", "--gpu", "h100", "--step-time", "."), "--step-time: .: holds no kernel table"),
    (("llama-3-8b", "--gpu", "h100", "--engine", "vlm"), "--engine 'vlm'; did you mean 'vllm'?"),
])
def test_bad_input_is_one_line(penstock, folder, arguments, words):
    outcome = penstock("catalog", "explain", *arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert words in outcome.err
