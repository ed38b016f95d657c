"""Models in llama.cpp's file format: random weights of a shape, and the shape of a file."""

from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import InputError, missing_extra
from penstock.core.model import ModelSpec

# Our precision -> what the gguf package calls the weights' format. Norms stay in fp32.
FORMATS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "int8": "Q8_0", "int4": "Q4_0"}
_FILE_TYPES = {"fp32": "ALL_F32", "fp16": "MOSTLY_F16", "bf16": "MOSTLY_BF16",
               "int8": "MOSTLY_Q8_0", "int4": "MOSTLY_Q4_0"}


def write_random_gguf(path: Path, spec: ModelSpec, precision: str, seed: int = 0) -> None:
    """A Llama of this shape with random weights, and a vocabulary of numbered words.

    Raises InputError without the gguf package and for shapes that are not a dense Llama's.
    """
    gguf = _library()
    if spec.num_experts or spec.kv_latent_size or not spec.gated_mlp:
        raise InputError(f"model {spec.name}: only dense Llama-shaped models are written as GGUF; "
                         "give a .gguf file")
    kind = getattr(gguf.GGMLQuantizationType, FORMATS[precision])
    block = gguf.GGML_QUANT_SIZES[kind][0]
    if spec.hidden_size % block or spec.intermediate_size % block:
        raise InputError(f"precision {precision}: widths of {spec.hidden_size} and "
                         f"{spec.intermediate_size}; expected multiples of {block}")
    partial = path.with_name(f".partial-{path.name}")
    writer = gguf.GGUFWriter(partial, "llama")
    _write_header(writer, spec, getattr(gguf.LlamaFileType, _FILE_TYPES[precision]))
    rng = np.random.default_rng(seed)

    def tensor(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", np.ones(shape, dtype=np.float32))
            return
        values = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(shape[-1]))
        if precision in ("fp32", "fp16"):
            writer.add_tensor(f"{name}.weight",
                              values.astype(np.float32 if precision == "fp32" else np.float16))
        else:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind),
                              raw_dtype=kind)

    _write_tensors(tensor, spec)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(path)


def _write_header(writer: Any, spec: ModelSpec, file_type: Any) -> None:
    writer.add_name(spec.name)
    writer.add_file_type(file_type)
    writer.add_context_length(spec.max_context_tokens)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_block_count(spec.num_layers)
    writer.add_feed_forward_length(spec.intermediate_size)
    writer.add_head_count(spec.num_heads)
    writer.add_head_count_kv(spec.num_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_value_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(spec.head_dim)
    writer.add_vocab_size(spec.vocab_size)
    writer.add_tokenizer_model("llama")
    words = [f"<0x{byte:02X}>" for byte in range(256)]
    num_words = spec.vocab_size - 3 - len(words)
    tokens = ["<unk>", "<s>", "</s>", *words, *(f"▁w{number}" for number in range(num_words))]
    tokens = tokens[:spec.vocab_size]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(([2, 3, 3] + [6] * 256 + [1] * max(0, num_words))[:len(tokens)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _write_tensors(tensor: Any, spec: ModelSpec) -> None:
    query, key = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    width, inner = spec.hidden_size, spec.intermediate_size
    tensor("token_embd", spec.vocab_size, width)
    tensor("output_norm", width)
    if not spec.tied_embeddings:
        tensor("output", spec.vocab_size, width)
    for layer in range(spec.num_layers):
        block = f"blk.{layer}"
        tensor(f"{block}.attn_norm", width)
        tensor(f"{block}.attn_q", query, width)
        tensor(f"{block}.attn_k", key, width)
        tensor(f"{block}.attn_v", key, width)
        tensor(f"{block}.attn_output", width, query)
        tensor(f"{block}.ffn_norm", width)
        tensor(f"{block}.ffn_gate", inner, width)
        tensor(f"{block}.ffn_up", inner, width)
        tensor(f"{block}.ffn_down", width, inner)


def gguf_shape(path: Path) -> ModelSpec:
    """The shape that a file states. Raises InputError for what is no such file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model in GGUF format")
    gguf = _library()
    try:
        reader = gguf.GGUFReader(path)
        family = reader.get_field("general.architecture").contents()
    except Exception as error:  # the package raises whatever its parsing stumbles over
        raise InputError(f"{path}: is not a model in GGUF format "
                         f"({type(error).__name__}: {str(error)[:100]})") from error

    def whole(name: str, default: int | None = None) -> int:
        field = reader.get_field(f"{family}.{name}")
        value = default if field is None else field.contents()
        if isinstance(value, list):  # stated layer by layer
            value = max(value)
        if not isinstance(value, int | np.integer):
            raise InputError(f"{path}: {family}.{name} is missing; expected a whole number")
        return int(value)

    heads, hidden = whole("attention.head_count"), whole("embedding_length")
    vocabulary = reader.get_field("tokenizer.ggml.tokens")
    names = {tensor.name for tensor in reader.tensors}
    num_experts = whole("expert_count", 0)
    return ModelSpec(
        name=path.stem, num_layers=whole("block_count"), hidden_size=hidden, num_heads=heads,
        num_kv_heads=whole("attention.head_count_kv", heads),
        head_dim=whole("attention.key_length", hidden // heads),
        intermediate_size=whole("feed_forward_length"),
        vocab_size=whole("vocab_size", 0 if vocabulary is None else len(vocabulary.data)),
        max_context_tokens=whole("context_length"), tied_embeddings="output.weight" not in names,
        num_experts=num_experts, experts_per_token=whole("expert_used_count", 0),
        expert_intermediate_size=whole("expert_feed_forward_length", 0) or (
            whole("feed_forward_length") if num_experts else 0), source=str(path))


def _library() -> Any:
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise missing_extra("a model in GGUF format", "llamacpp", error) from error
    return gguf
