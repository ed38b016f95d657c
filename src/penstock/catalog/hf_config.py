"""A model's architecture from its Hugging Face config.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from penstock.catalog.checks import checked_model, is_number, is_whole, quote
from penstock.core.errors import InputError
from penstock.core.model import ModelSpec

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HIDDEN = ("hidden_size", "n_embd", "d_model")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels")
_MLP = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "mlp_hidden_size")
_VOCAB = ("padded_vocab_size", "vocab_size")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len",
            "seq_length", "n_ctx")
_EXPERTS = ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k")
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
_MOST = 1_000_000_000
_MOST_LAYERS = 10_000

# A config names its family, not the form of its feed-forward: these have two matrices, not three.
_UNGATED = frozenset({
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt",
    "nemotron", "opt", "persimmon", "phi", "phi-msft", "RefinedWeb", "RefinedWebModel",
    "starcoder2", "xglm"})
# Families that share input and output embeddings unless their config says otherwise.
_TIED = frozenset({
    "bloom", "cohere", "cohere2", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2",
    "gpt_bigcode", "gpt_neo", "mpt", "opt", "RefinedWeb", "RefinedWebModel", "starcoder2", "xglm"})
# Families whose feed-forward defaults to four times the hidden size.
_FOURFOLD = frozenset({
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "mpt", "phi-msft",
    "RefinedWeb", "RefinedWebModel"})
# Families whose config states the width of gate and up projection together.
_GATE_AND_UP = frozenset({"qwen", "hf_olmo"})
# Contexts that a family's code defines instead of its configs.
_USUAL_CONTEXT = {"falcon": 2048, "RefinedWeb": 2048, "RefinedWebModel": 2048, "bloom": 2048}
_MAX_BYTES = 5_000_000
_OF_LINEAR_ATTENTION = ("mamba_ssm_dtype",)
# Families of which every n-th layer attends to all tokens, the others to a window.
_WINDOW_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gpt_oss": 2}
_WINDOWED = ("sliding_attention", "chunked_attention")
_NO_CACHE = ("linear_attention", "recurrent", "conv")


def model_from_hf_config(config: Path | str | Mapping[str, Any],
                         name: str | None = None) -> ModelSpec:
    """Return the model of a config.json, given as its path, its folder, or its content.

    ``name`` defaults to the folder's name. A window in every layer is ignored: each then counts
    with its whole KV cache. Raises InputError when the file cannot be read, or a key is missing or
    invalid.
    """
    if isinstance(config, Mapping):
        where, data = name or "config.json", config
        name = name or str(config.get("_name_or_path") or "model")
    else:
        path = Path(config)
        path = path / "config.json" if path.is_dir() else path
        where, data = str(path), _read(path)
        name = name or _folder_name(path)
    return _Config(_text_model(data), where).model(name)


def _read(path: Path) -> Mapping[str, Any]:
    import json  # most runs use a model of the catalog

    if path.exists() and not path.is_file():  # opening a pipe would wait for a writer
        raise InputError(f"{path}: no regular file; expected a Hugging Face config.json")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise InputError(f"{path}: more than {_MAX_BYTES:,} bytes; is it a config.json?")
        data = json.loads(content.decode("utf-8-sig"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a Hugging Face "
                         "config.json") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: found {quote(data)}; expected a mapping of keys")
    return data


def _folder_name(path: Path) -> str:
    path = path.resolve()
    if path.name != "config.json":
        return path.stem
    # The Hugging Face cache: models--<owner>--<name>/snapshots/<revision>/config.json
    if path.parents[1].name == "snapshots":
        return path.parents[2].name.split("--")[-1]
    return path.parent.name


def _text_model(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's keys, also where a multi-modal config nests them."""
    for key in _NESTED:
        inner = data.get(key)
        if isinstance(inner, Mapping):
            outer = {name: value for name, value in data.items() if name not in _NESTED}
            return {**outer, **_text_model(inner)}
    return data


class _Config:
    """The keys of one config, under all names that model families use."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self._data = data
        self._where = where
        self._family = data.get("model_type") or ""
        if not isinstance(self._family, str):
            self._fail("model_type", quote(self._family), "text")

    def model(self, name: str) -> ModelSpec:
        """Return the values as a model. Raises InputError."""
        self._check_kind()
        num_layers = self._need(_LAYERS, "the number of layers", _MOST_LAYERS)
        hidden_size = self._need(_HIDDEN, "the hidden size")
        num_heads = self._need(_HEADS, "the number of attention heads")
        mlp = self._mlp_width(hidden_size)
        spec = ModelSpec(
            name=name, num_layers=num_layers, hidden_size=hidden_size, num_heads=num_heads,
            num_kv_heads=self._kv_heads(num_heads), head_dim=self._head_dim(hidden_size, num_heads),
            intermediate_size=mlp, vocab_size=self._need(_VOCAB, "the size of the vocabulary"),
            max_context_tokens=self._context(), tied_embeddings=self._tied(),
            gated_mlp=self._family not in _UNGATED,
            gated_attention=self._data.get("attn_output_gate") is True,
            kv_layers=self._kv_layers(num_layers),
            sparse_tokens=self._whole(("index_topk",), least=0), source=self._where,
            **self._windows(num_layers), **self._experts(num_layers, mlp), **self._latent(),
            **self._linear_attention())
        return checked_model(spec, self._where)

    def _fail(self, key: str, found: str, expected: str) -> NoReturn:
        raise InputError(f"{self._where}: {key}: found {found}; expected {expected}")

    def _check_kind(self) -> None:
        """Reject configs that would be read without an error but described wrongly."""
        if self._data.get("is_encoder_decoder") is True:
            self._fail("is_encoder_decoder", "true", "a decoder-only model")
        for key, value in self._data.items():
            if key.startswith("mamba_") and key not in _OF_LINEAR_ATTENTION:
                self._fail(key, quote(value), "a model without state-space layers")

    def _whole(self, keys: Sequence[str], default: int = 0, least: int = 1,
               most: int = _MOST) -> int:
        """Return the first of ``keys`` that has a value, ``default`` when none has."""
        for key in keys:
            value = self._data.get(key)
            if value is None:
                continue
            if not is_whole(value) or not least <= value <= most:
                self._fail(key, quote(value), f"a whole number from {least} to {most:,}")
            return int(value)
        return default

    def _need(self, keys: Sequence[str], what: str, most: int = _MOST) -> int:
        value = self._whole(keys, most=most)
        if not value:
            raise InputError(f"{self._where}: {keys[0]} is missing; expected {what} under this "
                             f"name or {', '.join(keys[1:])}")
        return value

    def _kv_heads(self, num_heads: int) -> int:
        if self._family in ("falcon", "RefinedWeb", "RefinedWebModel"):
            grouped = (self._data.get("new_decoder_architecture")
                       or self._family == "RefinedWeb")
            if not grouped:
                return 1 if self._data.get("multi_query", True) else num_heads
        elif self._data.get("multi_query") is True:
            return 1
        attention = self._data.get("attn_config")
        if isinstance(attention, Mapping) and is_whole(attention.get("kv_n_heads")):
            return int(attention["kv_n_heads"])
        return self._whole(_KV_HEADS, num_heads)

    def _head_dim(self, hidden_size: int, num_heads: int) -> int:
        if self._whole(("kv_lora_rank",)):
            return (self._need(("qk_nope_head_dim",), "the width of a head without positions")
                    + self._need(("qk_rope_head_dim",), "the width of a head's positions"))
        head_dim = self._whole(_HEAD_DIM)
        if not head_dim and hidden_size % num_heads:
            self._fail("num_attention_heads", str(num_heads),
                       f"a divisor of hidden_size, {hidden_size}, or head_dim beside it")
        return head_dim or hidden_size // num_heads

    def _mlp_width(self, hidden_size: int) -> int:
        # Llama 4 keeps the experts' width in intermediate_size and the dense layers' beside it.
        width = self._whole(("intermediate_size_mlp", *_MLP))
        if self._family in _GATE_AND_UP:
            return width // 2
        if not width and self._family in _FOURFOLD:
            return self._whole(("expansion_ratio",), 4) * hidden_size
        return width or self._need(_MLP, "the width of the feed-forward")

    def _context(self) -> int:
        context = self._whole(_CONTEXT, _USUAL_CONTEXT.get(self._family, 0))
        if not context:
            context = self._need(_CONTEXT, "the longest context in tokens")
        scaling = self._data.get("rope_scaling") or self._data.get("rope_parameters")
        if not isinstance(scaling, Mapping):
            return context
        kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
        original = scaling.get("original_max_position_embeddings")
        if not is_number(factor) or not 1 <= factor <= _MOST:
            return context
        if kind in ("linear", "dynamic"):
            return round(context * factor)
        if kind == "yarn" and is_whole(original):
            return max(context, round(original * factor))
        return context

    def _tied(self) -> bool:
        tied = self._data.get("tie_word_embeddings")
        if tied is None:
            return self._family in _TIED
        if not isinstance(tied, bool):
            self._fail("tie_word_embeddings", quote(tied), "true or false")
        return tied

    def _kv_layers(self, num_layers: int) -> int:
        """Return the number of layers with a KV cache, where some keep a fixed state instead; 0
        where all have one."""
        kinds = self._data.get("layer_types")
        if isinstance(kinds, list):
            caching = sum(kind not in _NO_CACHE for kind in kinds)
            if not caching:
                self._fail("layer_types", "no attention layer", "at least one")
            return caching if caching < num_layers else 0
        interval = self._whole(("full_attention_interval",))
        return num_layers // interval if interval > 1 else 0

    def _windows(self, num_layers: int) -> dict[str, int]:
        """Return the layers that attend to a window, where others attend to all tokens."""
        kinds = self._data.get("layer_types")
        pattern = self._whole(("sliding_window_pattern", "_sliding_window_pattern"),
                              _WINDOW_PATTERNS.get(self._family, 0), least=0)
        if isinstance(kinds, list):
            layers = sum(kind in _WINDOWED for kind in kinds)
        elif pattern > 1:
            layers = num_layers - num_layers // pattern
        else:
            layers = 0
        window = self._data.get("sliding_window") or self._data.get("attention_chunk_size")
        if not 0 < layers < num_layers or not is_whole(window) or window < 1:
            return {}
        return {"window_layers": layers, "window_tokens": window}

    def _linear_attention(self) -> dict[str, int]:
        head_dim = self._whole(("linear_value_head_dim",))
        if not head_dim:
            return {}
        return {"linear_head_dim": head_dim,
                "linear_key_heads": self._need(("linear_num_key_heads",),
                                               "the key heads of linear attention"),
                "linear_value_heads": self._need(("linear_num_value_heads",),
                                                 "the value heads of linear attention")}

    def _experts(self, num_layers: int, mlp: int) -> dict[str, int]:
        num_experts = self._whole(_EXPERTS, least=0)
        if num_experts <= 1:
            return {}
        width = self._whole(("moe_intermediate_size",)) or self._whole(("intermediate_size",), mlp)
        shared = self._whole(("shared_expert_intermediate_size", "shared_intermediate_size"),
                             least=0)
        if not shared:
            shared = width * self._whole(("n_shared_experts", "num_shared_experts"), least=0)
        if "intermediate_size_mlp" in self._data:
            shared = width
        return {"num_experts": num_experts,
                "experts_per_token": self._need(_PER_TOKEN, "the experts that a token visits"),
                "expert_intermediate_size": width, "shared_intermediate_size": shared,
                "num_dense_layers": num_layers - self._num_sparse_layers(num_layers)}

    def _num_sparse_layers(self, num_layers: int) -> int:
        """Return the number of layers with experts: every n-th after the first dense ones, without
        exceptions."""
        pattern = self._data.get("moe_layer_freq")
        if isinstance(pattern, list):
            return sum(bool(item) for item in pattern)
        first = self._whole(("first_k_dense_replace",), least=0)
        step = self._whole(("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq"),
                           1)
        excepted = self._data.get("mlp_only_layers") or []
        if not isinstance(excepted, list):
            self._fail("mlp_only_layers", quote(excepted), "a list of layers")
        # DeepSeek counts layers from 0 (layer % step), Qwen and Llama 4 from 1 ((layer + 1) %).
        offset = 0 if "moe_layer_freq" in self._data else 1
        return sum(layer >= first and (layer + offset) % step == 0 and layer not in excepted
                   for layer in range(num_layers))

    def _latent(self) -> dict[str, int]:
        rank = self._whole(("kv_lora_rank",))
        if not rank:
            return {}
        rope = self._need(("qk_rope_head_dim",), "the width of a head's positions")
        return {"kv_latent_size": rank + rope, "q_latent_size": self._whole(("q_lora_rank",)),
                "rope_head_dim": rope, "v_head_dim": self._whole(("v_head_dim",))}
