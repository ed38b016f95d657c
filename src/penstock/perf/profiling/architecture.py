"""The profiled model: a shape by name or config.json, or a checkpoint, whole or cut."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.catalog.catalog import Catalog
from penstock.catalog.hf_config import model_from_hf_config
from penstock.core.errors import InputError
from penstock.core.model import ModelSpec

_WEIGHT_ENDINGS = (".safetensors", ".bin")


@dataclass(frozen=True, slots=True)
class Architecture:
    """A model to be profiled.

    ``config`` is its config.json in Hugging Face's form. ``weights`` is the checkpoint's folder or
    GGUF file; None means that weights of this shape are drawn at random: times do not depend on
    them, but for which experts of a mixture are visited.
    """

    spec: ModelSpec
    config: Mapping[str, Any]
    weights: Path | None = None

    @property
    def name(self) -> str:
        """The model's name in rows."""
        return self.spec.name

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are one file in llama.cpp's format."""
        return self.weights is not None and self.weights.suffix == ".gguf"

    def cut(self, num_layers: int) -> "Architecture":
        """The first layers alone, embeddings and head whole; itself when that is all of them.

        A cut of a checkpoint has random weights. Raises InputError for more layers than there are.
        """
        if num_layers == self.spec.num_layers:
            return self
        if self.is_gguf:
            raise InputError(f"{self.weights}: a GGUF file cannot be cut to {num_layers} layers; "
                             "give the model's name or config.json in its place")
        if not 1 <= num_layers < self.spec.num_layers:
            raise InputError(f"model {self.name}: {num_layers} layers; it has "
                             f"{self.spec.num_layers}")
        windowed = self.spec.window_layers * num_layers // self.spec.num_layers
        spec = replace(self.spec, num_layers=num_layers, kv_layers=0, window_layers=windowed,
                       window_tokens=self.spec.window_tokens if windowed else 0,
                       num_dense_layers=min(self.spec.num_dense_layers, num_layers))
        config = {**self.config, "num_hidden_layers": num_layers}
        if isinstance(kinds := config.get("layer_types"), list):
            config["layer_types"] = kinds[:num_layers]
        return Architecture(spec, config)

    def without_experts(self) -> str:
        """Return a note on a mixture that was cut to leading dense layers; empty for all others."""
        if not self.spec.num_experts or self.spec.num_moe_layers:
            return ""
        return (f"the {self.spec.num_layers} layers of this cut of {self.name} are dense: none of "
                "its layers with experts is measured")


def find_architecture(name: str, catalog: Catalog) -> Architecture:
    """A model of the catalog, a config.json, a checkpoint's folder, or a GGUF file.

    Raises InputError for what is none of them, and for a model of the catalog whose shape cannot be
    written as a Llama's.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        from penstock.perf.profiling.gguf_file import gguf_shape

        return Architecture(gguf_shape(path), {}, path)
    folder = path if path.is_dir() else path.parent
    if path.suffix == ".json" or (path.is_dir() and (path / "config.json").exists()):
        spec = model_from_hf_config(path)
        config = json.loads((folder / "config.json" if path.is_dir() else path).read_text("utf-8"))
        has_weights = path.is_dir() and any(
            one.suffix in _WEIGHT_ENDINGS for one in folder.iterdir())
        return Architecture(spec, config, folder if has_weights else None)
    spec = catalog.model(name)
    return Architecture(spec, llama_config(spec))


def llama_config(spec: ModelSpec) -> dict[str, Any]:
    """A config.json of the shape that a catalog entry states, as a Llama or a Mixtral.

    The catalog does not say which family a model is of: norms, biases and activations may differ
    from the real one's, which costs next to no time. Raises InputError for a shape that neither
    family has.
    """
    if spec.kv_latent_size or spec.kv_layers or not spec.gated_mlp or (
            spec.num_experts and (spec.num_dense_layers or spec.shared_intermediate_size)):
        raise InputError(f"model {spec.name}: the catalog's entry is not enough to build it; give "
                         "the path of its config.json")
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "hidden_size": spec.hidden_size, "intermediate_size": spec.intermediate_size,
        "num_hidden_layers": spec.num_layers, "num_attention_heads": spec.num_heads,
        "num_key_value_heads": spec.num_kv_heads, "head_dim": spec.head_dim,
        "vocab_size": spec.vocab_size, "max_position_embeddings": spec.max_context_tokens,
        "tie_word_embeddings": spec.tied_embeddings, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "bos_token_id": 1, "eos_token_id": 2}
    if spec.num_experts:
        config |= {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral",
                   "num_local_experts": spec.num_experts,
                   "num_experts_per_tok": spec.experts_per_token,
                   "intermediate_size": spec.expert_intermediate_size}
    return config
