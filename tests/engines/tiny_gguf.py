"""A model of random weights in llama.cpp's file format, with a vocabulary of bytes and words."""

from pathlib import Path

_WORDS = ("▁the", "▁water", "▁falls", "▁through", "▁gate", "▁and", "▁turns", "▁a", "▁wheel", "▁")
VOCABULARY = 3 + 256 + len(_WORDS)


def tiny_gguf(path: Path, context_tokens: int = 4096, layers: int = 2) -> Path:
    """A Llama, of about 0.3 million weights with two layers, drawn so wide that answers vary."""
    import numpy as np
    from gguf import GGUFWriter

    width, heads, kv_heads, inner = 64, 4, 2, 128
    head = width // heads
    rng = np.random.default_rng(11)
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(context_tokens)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(head)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("llama")
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-1.0 - number for number in range(len(_WORDS))])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * len(_WORDS))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def tensor(name: str, *shape: int) -> None:
        values = (np.ones(shape) if len(shape) == 1
                  else rng.normal(0.0, 1.6 / np.sqrt(shape[-1]), shape))
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    tensor("token_embd", VOCABULARY, width)
    tensor("output_norm", width)
    tensor("output", VOCABULARY, width)
    for layer in range(layers):
        block = f"blk.{layer}"
        tensor(f"{block}.attn_norm", width)
        tensor(f"{block}.attn_q", width, width)
        tensor(f"{block}.attn_k", kv_heads * head, width)
        tensor(f"{block}.attn_v", kv_heads * head, width)
        tensor(f"{block}.attn_output", width, width)
        tensor(f"{block}.ffn_norm", width)
        tensor(f"{block}.ffn_gate", inner, width)
        tensor(f"{block}.ffn_up", inner, width)
        tensor(f"{block}.ffn_down", width, inner)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
