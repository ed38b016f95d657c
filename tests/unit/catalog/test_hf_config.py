"""Configs of many families, read into the architecture that their authors publish."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.catalog import load_catalog, model_from_hf_config
from penstock.core.errors import InputError
from penstock.core.model import ModelSpec
from support.scaled_examples import unit_examples

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
    "intermediate_size": 14336, "max_position_embeddings": 8192, "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "rope_scaling": None, "tie_word_embeddings": False,
}
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432,
    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
    "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "first_k_dense_replace": 3, "moe_layer_freq": 1,
    "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
    "v_head_dim": 128, "vocab_size": 129280, "max_position_embeddings": 163840,
    "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
    "tie_word_embeddings": False,
}
# Families by the name that the catalog has for the same architecture.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3-8b": LLAMA,
    "llama-3.1-8b": {**LLAMA, "max_position_embeddings": 131072,
                     "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
                                      "original_max_position_embeddings": 8192}},
    "llama-2-7b": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
                   "max_position_embeddings": 4096, "num_attention_heads": 32,
                   "num_hidden_layers": 32, "vocab_size": 32000, "tie_word_embeddings": False},
    "mixtral-8x7b": {"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336,
                     "max_position_embeddings": 32768, "num_attention_heads": 32,
                     "num_hidden_layers": 32, "num_key_value_heads": 8, "num_local_experts": 8,
                     "num_experts_per_tok": 2, "sliding_window": None, "vocab_size": 32000,
                     "tie_word_embeddings": False},
    "qwen2.5-0.5b": {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
                     "max_position_embeddings": 32768, "num_attention_heads": 14,
                     "num_hidden_layers": 24, "num_key_value_heads": 2, "vocab_size": 151936,
                     "tie_word_embeddings": True},
    "qwen3-30b-a3b": {"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144,
                      "head_dim": 128, "moe_intermediate_size": 768, "num_experts": 128,
                      "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
                      "num_attention_heads": 32, "num_hidden_layers": 48,
                      "num_key_value_heads": 4, "vocab_size": 151936,
                      "max_position_embeddings": 40960, "tie_word_embeddings": False},
    "qwen-7b": {"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016,
                "kv_channels": 128, "max_position_embeddings": 32768, "num_attention_heads": 32,
                "num_hidden_layers": 32, "vocab_size": 151936, "seq_length": 8192,
                "tie_word_embeddings": False},
    "deepseek-v3": DEEPSEEK_V3,
    "deepseek-v2-lite": {**DEEPSEEK_V3, "model_type": "deepseek_v2", "hidden_size": 2048,
                         "intermediate_size": 10944, "moe_intermediate_size": 1408,
                         "num_hidden_layers": 27, "num_attention_heads": 16,
                         "num_key_value_heads": 16, "n_shared_experts": 2, "n_routed_experts": 64,
                         "num_experts_per_tok": 6, "first_k_dense_replace": 1,
                         "q_lora_rank": None, "vocab_size": 102400},
    "gemma-2-9b": {"model_type": "gemma2", "head_dim": 256, "hidden_size": 3584,
                   "intermediate_size": 14336, "max_position_embeddings": 8192,
                   "num_attention_heads": 16, "num_hidden_layers": 42, "num_key_value_heads": 8,
                   "sliding_window": 4096, "vocab_size": 256000},
    "phi-2": {"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240,
              "max_position_embeddings": 2048, "num_attention_heads": 32,
              "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 51200,
              "tie_word_embeddings": False},
    "phi-3-mini": {"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192,
                   "max_position_embeddings": 4096, "num_attention_heads": 32,
                   "num_hidden_layers": 32, "num_key_value_heads": 32, "vocab_size": 32064,
                   "tie_word_embeddings": False},
    "falcon-7b": {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71,
                  "num_hidden_layers": 32, "multi_query": True, "parallel_attn": True,
                  "new_decoder_architecture": False, "vocab_size": 65024},
    "falcon-40b": {"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128,
                   "num_hidden_layers": 60, "num_kv_heads": 8, "multi_query": True,
                   "new_decoder_architecture": True, "vocab_size": 65024},
    "granite-20b-code": {"model_type": "gpt_bigcode", "n_embd": 6144, "n_head": 48,
                         "n_inner": 24576, "n_layer": 52, "n_positions": 8192,
                         "multi_query": True, "vocab_size": 49152},
    "granite-3.1-8b": {"model_type": "granite", "hidden_size": 4096, "intermediate_size": 12800,
                       "max_position_embeddings": 131072, "num_attention_heads": 32,
                       "num_hidden_layers": 40, "num_key_value_heads": 8, "vocab_size": 49155,
                       "tie_word_embeddings": True},
    "gpt-oss-20b": {"model_type": "gpt_oss", "head_dim": 64, "hidden_size": 2880,
                    "intermediate_size": 2880, "num_local_experts": 32, "num_experts_per_tok": 4,
                    "experts_per_token": 4, "num_attention_heads": 64, "num_hidden_layers": 24,
                    "num_key_value_heads": 8, "vocab_size": 201088, "sliding_window": 128,
                    "layer_types": ["sliding_attention", "full_attention"] * 12,
                    "max_position_embeddings": 131072, "initial_context_length": 4096,
                    "rope_scaling": {"rope_type": "yarn", "factor": 32.0,
                                     "original_max_position_embeddings": 4096},
                    "tie_word_embeddings": False},
    "opt-125m": {"model_type": "opt", "hidden_size": 768, "ffn_dim": 3072,
                 "num_attention_heads": 12, "num_hidden_layers": 12, "vocab_size": 50272,
                 "max_position_embeddings": 2048, "word_embed_proj_dim": 768},
    "llama-4-scout": {
        "model_type": "llama4", "vision_config": {"hidden_size": 1408, "num_hidden_layers": 34},
        "text_config": {"model_type": "llama4_text", "hidden_size": 5120, "head_dim": 128,
                        "intermediate_size": 8192, "intermediate_size_mlp": 16384,
                        "interleave_moe_layer_step": 1, "num_local_experts": 16,
                        "num_experts_per_tok": 1, "num_attention_heads": 40,
                        "num_hidden_layers": 48, "num_key_value_heads": 8, "vocab_size": 202048,
                        "max_position_embeddings": 10485760, "tie_word_embeddings": False}},
}
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
        "n_ctx": 1024, "vocab_size": 50257}


def facts(spec: ModelSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in ModelSpec.__slots__
            if name not in ("name", "source")}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_gives_the_catalogs_architecture(name: str) -> None:
    spec = model_from_hf_config(CONFIGS[name], name)
    assert facts(spec) == facts(load_catalog().model(name))


@pytest.mark.parametrize(("config", "billions"), [
    (GPT2, 0.1244),
    ({"model_type": "gpt_neox", "hidden_size": 6144, "intermediate_size": 24576,
      "num_attention_heads": 64, "num_hidden_layers": 44, "max_position_embeddings": 2048,
      "vocab_size": 50432, "tie_word_embeddings": False}, 20.55),
    ({"model_type": "olmo", "hidden_size": 4096, "intermediate_size": 11008,
      "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
      "max_position_embeddings": 2048, "vocab_size": 50304, "tie_word_embeddings": False}, 6.89),
    ({"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632,
      "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632, "num_experts": 60,
      "num_experts_per_tok": 4, "decoder_sparse_step": 1, "num_attention_heads": 16,
      "num_hidden_layers": 24, "num_key_value_heads": 16, "max_position_embeddings": 8192,
      "vocab_size": 151936, "tie_word_embeddings": False}, 14.3),
    ({"model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "ffn_hidden_size": 13696,
      "num_attention_heads": 32, "kv_channels": 128, "multi_query_attention": True,
      "multi_query_group_num": 2, "padded_vocab_size": 65024, "seq_length": 32768}, 6.24),
    ({"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4,
      "max_seq_len": 2048, "vocab_size": 50432}, 6.65),
    ({"model_type": "starcoder2", "hidden_size": 4608, "intermediate_size": 18432,
      "num_attention_heads": 36, "num_hidden_layers": 32, "num_key_value_heads": 4,
      "max_position_embeddings": 16384, "vocab_size": 49152}, 7.17),
], ids=lambda value: value["model_type"] if isinstance(value, dict) else str(value))
def test_families_outside_the_catalog(config: dict[str, Any], billions: float) -> None:
    assert model_from_hf_config(config).num_params / 1e9 == pytest.approx(billions, rel=0.02)


def test_experts_in_every_other_layer() -> None:
    maverick = {**CONFIGS["llama-4-scout"]["text_config"], "interleave_moe_layer_step": 2,
                "num_local_experts": 128}
    assert model_from_hf_config(maverick).num_moe_layers == 24
    qwen = {**CONFIGS["qwen3-30b-a3b"], "mlp_only_layers": [0, 5]}
    assert model_from_hf_config(qwen).num_dense_layers == 2
    listed = {**DEEPSEEK_V3, "moe_layer_freq": [0] + [1] * 60}
    assert model_from_hf_config(listed).num_dense_layers == 1


def test_layers_without_a_cache_are_not_counted() -> None:
    kinds = (["linear_attention"] * 3 + ["full_attention"]) * 8
    assert model_from_hf_config({**LLAMA, "layer_types": kinds}).kv_layers == 8
    assert model_from_hf_config({**LLAMA, "full_attention_interval": 4}).kv_layers == 8


@pytest.mark.parametrize(("scaling", "tokens"), [
    ({"type": "linear", "factor": 4.0}, 32768), ({"type": "dynamic", "factor": 2}, 16384),
    ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 32768),
    ({"rope_type": "longrope", "original_max_position_embeddings": 4096}, 8192),
    ({"rope_type": "default"}, 8192), ({"type": "linear", "factor": float("nan")}, 8192)])
def test_scaled_positions_lengthen_the_context(scaling: dict[str, Any], tokens: int) -> None:
    assert model_from_hf_config({**LLAMA, "rope_scaling": scaling}).max_context_tokens == tokens


@pytest.mark.parametrize(("change", "problem"), [
    ({"num_hidden_layers": None}, "num_hidden_layers is missing; expected the number of layers "
                                  "under this name or n_layer"),
    ({"vocab_size": None}, "padded_vocab_size is missing; expected the size of the vocabulary"),
    ({"hidden_size": -4096}, "hidden_size: found -4096; expected a whole number from 1"),
    ({"num_hidden_layers": 10_001}, "num_hidden_layers: found 10001; expected a whole number from"),
    ({"num_local_experts": 8, "num_experts_per_tok": 2, "mlp_only_layers": 3},
     "mlp_only_layers: found 3; expected a list of layers"),
    ({"hidden_size": "4096"}, "hidden_size: found '4096'; expected a whole number"),
    ({"hidden_size": 4096.5}, "hidden_size: found 4096.5; expected a whole number"),
    ({"hidden_size": True}, "hidden_size: found True; expected a whole number"),
    ({"hidden_size": [1, 2]}, "hidden_size: found a list; expected a whole number"),
    ({"num_attention_heads": 33}, "num_attention_heads: found 33; expected a divisor of"),
    ({"num_key_value_heads": 5}, "num_kv_heads: found 5; expected a divisor of num_heads, 32"),
    ({"intermediate_size": None}, "intermediate_size is missing; expected the width"),
    ({"max_position_embeddings": None}, "max_position_embeddings is missing; expected the longest"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings: found 'no'; expected true or false"),
    ({"num_local_experts": 8}, "num_experts_per_tok is missing; expected the experts"),
    ({"num_local_experts": 8, "num_experts_per_tok": 9},
     "experts_per_token: found 9; expected 1 to num_experts, 8"),
    ({"kv_lora_rank": 512}, "qk_nope_head_dim is missing"),
    ({"is_encoder_decoder": True}, "is_encoder_decoder: found true; expected a decoder-only"),
    ({"mamba_d_state": 16}, "mamba_d_state: found 16; expected a model without state-space"),
    ({"layer_types": ["linear_attention"] * 32}, "layer_types: found no attention layer"),
    ({"model_type": ["llama"]}, "model_type: found a list; expected text"),
])
def test_errors_name_the_key(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError) as caught:
        model_from_hf_config({**LLAMA, **change}, "mine")
    assert str(caught.value).startswith(f"mine: {problem}")


def test_a_file_a_folder_and_the_catalogs_lookup(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    file = folder / "config.json"
    file.write_text(json.dumps(LLAMA))
    spec = model_from_hf_config(folder)
    assert spec == model_from_hf_config(file, "my-llama") == load_catalog().model(str(folder))
    assert load_catalog().model(str(file)) == spec
    assert (spec.name, spec.source) == ("my-llama", str(file))
    (tmp_path / "other.json").write_text(json.dumps(GPT2))
    assert model_from_hf_config(tmp_path / "other.json").name == "other"


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)
    assert load_catalog().model("mine").num_layers == 32


def test_the_hugging_face_cache_names_the_model(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--acme--tiny-1b" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA))
    assert model_from_hf_config(snapshot).name == "tiny-1b"


@pytest.mark.parametrize(("text", "problem"), [
    ("{", r"config\.json:1: not valid JSON"), ("[1]", r"config\.json: found a list; expected a"),
    ("\x80", r"config\.json: "), ("[" * 100_000, r"config\.json: ")])
def test_files_that_are_no_config(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=problem):
        model_from_hf_config(tmp_path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be read .*; expected a Hugging Face config"):
        load_catalog().model(str(tmp_path / "config.json"))


VALUES = st.one_of(st.none(), st.booleans(), st.integers(-2, 1 << 40), st.floats(),
                   st.text(max_size=5), st.lists(st.integers(0, 2), max_size=3),
                   st.dictionaries(st.sampled_from(["factor", "type"]), st.integers(), max_size=2))


@unit_examples(200)
@given(st.sampled_from([LLAMA, DEEPSEEK_V3, GPT2, CONFIGS["qwen3-30b-a3b"]]), st.data())
def test_a_spoiled_config_is_read_or_refused_with_one_line(config: dict[str, Any],
                                                           data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from([*config, "mlp_only_layers", "layer_types",
                                               "attn_config", "expansion_ratio"]), max_size=3))
    spoiled = {**config, **{key: data.draw(VALUES) for key in keys}}
    message = "spoiled: fine"
    try:
        spec = model_from_hf_config(spoiled, "spoiled")
    except InputError as error:
        message = str(error)
    else:
        assert spec.num_params > 0
        assert spec.kv_bytes_per_token("bf16") > 0
    assert message.startswith("spoiled: ")
    assert "\n" not in message


def test_a_config_is_not_read_without_end(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b" " * 5_000_001)
    with pytest.raises(InputError, match=r"more than 5,000,000 bytes; is it a config\.json"):
        model_from_hf_config(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(InputError, match="no regular file; expected a Hugging Face config"):
        model_from_hf_config(tmp_path / "config.json")
