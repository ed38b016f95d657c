"""A transformer's architecture, and the sizes that follow from it."""

from dataclasses import dataclass
from typing import NamedTuple

BYTES_PER_VALUE = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5,
                   "int4": 0.5}

INDEX_KEY_BYTES = 132
"""Bytes of a token's key for sparse attention: 128 values of 8 bits with their scale."""

_VOCAB_BLOCK = 64
"""Engines pad the vocabulary to a multiple of this many rows before ranks share it (vLLM's and
SGLang's ``VocabParallelEmbedding``)."""


QKV, ATTENTION_OUT = "QKV projection", "output projection"
LINEAR_IN, LINEAR_OUT = "linear-attention input", "linear-attention output"
MLP, ROUTER, SHARED_EXPERTS = "feed-forward", "router", "shared experts"


class LayerMatrices(NamedTuple):
    """Matrices of one purpose over all layers that multiply every token.

    ``calls`` counts the multiplications of a step, ``params`` the weights.
    """

    name: str
    calls: int
    params: int


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A decoder-only transformer, dense or mixture-of-experts, by its public config.

    ``num_experts`` = 0 means dense. For a mixture, ``num_dense_layers`` leading layers keep the
    dense feed-forward of ``intermediate_size``; the others route each token to
    ``experts_per_token`` of ``num_experts`` experts of ``expert_intermediate_size``, beside shared
    experts of total width ``shared_intermediate_size``. ``kv_latent_size`` > 0 means multi-head
    latent attention: the cache holds that many values per token and layer in place of K and V
    heads. ``kv_layers`` counts layers that keep a KV cache (0 = all). The other layers have linear
    attention where ``linear_head_dim`` > 0: gated delta rule with ``linear_key_heads`` and
    ``linear_value_heads``, whose state has a fixed size. ``gated_attention`` says that full
    attention multiplies its output by a gate as wide as the queries. ``window_layers`` of the
    layers with a KV cache attend to the last ``window_tokens`` tokens alone. ``sparse_tokens`` > 0
    means that a decode attends to so many tokens, which an indexer with a key of
    ``INDEX_KEY_BYTES`` per token and layer selects (DeepSeek-V3.2, arXiv 2512.02556).
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_context_tokens: int
    tied_embeddings: bool = False
    gated_mlp: bool = True
    num_experts: int = 0
    experts_per_token: int = 0
    expert_intermediate_size: int = 0
    shared_intermediate_size: int = 0
    num_dense_layers: int = 0
    kv_latent_size: int = 0
    q_latent_size: int = 0
    rope_head_dim: int = 0
    v_head_dim: int = 0
    kv_layers: int = 0
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_head_dim: int = 0
    gated_attention: bool = False
    window_layers: int = 0
    window_tokens: int = 0
    sparse_tokens: int = 0
    source: str = ""

    @property
    def attention_params(self) -> int:
        """Weights of one attention block with a KV cache, without biases and norms."""
        return sum(self._attention_projections)

    @property
    def _attention_projections(self) -> tuple[int, int]:
        """Weights before and after the attention of one block with a KV cache."""
        if self.kv_latent_size:
            return self._latent_projections()
        query = self.hidden_size * self.num_heads * self.head_dim
        key_value = 2 * self.hidden_size * self.num_kv_heads * self.head_dim
        return (2 if self.gated_attention else 1) * query + key_value, query

    @property
    def linear_layers(self) -> int:
        """Layers with linear attention."""
        return self.num_layers - self.kv_layers if self.linear_head_dim and self.kv_layers else 0

    @property
    def _linear_projections(self) -> tuple[int, int]:
        """Weights before and after the linear attention of one block."""
        # Qwen3-Next (transformers, modeling_qwen3_next): queries, keys, values, gate and two
        # scalars a value head on the way in; values on the way out.
        keys = self.linear_key_heads * self.linear_head_dim
        values = self.linear_value_heads * self.linear_head_dim
        return (self.hidden_size * (2 * keys + 2 * values + 2 * self.linear_value_heads),
                self.hidden_size * values)

    @property
    def layer_matrices(self) -> tuple[LayerMatrices, ...]:
        """Matrices of all layers that multiply every token, by purpose: all but routed experts."""
        linear, moe = self.linear_layers, self.num_moe_layers
        full, dense = self.num_layers - linear, self.num_layers - moe
        before, after = self._attention_projections
        linear_before, linear_after = self._linear_projections
        ways_in = 3 if self.kv_latent_size else 1  # low-rank projections follow one another
        mlp, shared = map(self._mlp_params, (self.intermediate_size,
                                             self.shared_intermediate_size))
        found = (
            LayerMatrices(QKV, full * ways_in, full * before),
            LayerMatrices(LINEAR_IN, linear * ways_in, linear * linear_before),
            LayerMatrices(ATTENTION_OUT, full, full * after),
            LayerMatrices(LINEAR_OUT, linear, linear * linear_after),
            LayerMatrices(MLP, 2 * dense, dense * mlp),
            LayerMatrices(ROUTER, moe, moe * self.hidden_size * self.num_experts),
            LayerMatrices(SHARED_EXPERTS, 2 * moe * bool(shared), moe * shared))
        return tuple(one for one in found if one.calls)

    @property
    def _layer_params(self) -> int:
        return sum(one.params for one in self.layer_matrices)

    @property
    def state_bytes_per_seq(self) -> int:
        """Bytes of the states of linear attention of one sequence, in 32 bits, over all layers."""
        per_layer = self.linear_value_heads * self.linear_head_dim**2
        return 4 * self.linear_layers * per_layer

    def _latent_projections(self) -> tuple[int, int]:
        # DeepSeek-V2 (arXiv 2405.04434, section 2.1): low-rank query and key/value projections.
        value_dim = self.v_head_dim or self.head_dim
        nope_dim = self.head_dim - self.rope_head_dim
        rank = self.kv_latent_size - self.rope_head_dim
        query_out = self.num_heads * self.head_dim
        query = (self.q_latent_size * (self.hidden_size + query_out)
                 if self.q_latent_size else self.hidden_size * query_out)
        down = self.hidden_size * self.kv_latent_size
        up = rank * self.num_heads * (nope_dim + value_dim)
        return query + down + up, self.num_heads * value_dim * self.hidden_size

    def _mlp_params(self, width: int) -> int:
        return (3 if self.gated_mlp else 2) * self.hidden_size * width

    @property
    def embedding_params(self) -> int:
        """Input embedding and output head together."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)

    @property
    def num_moe_layers(self) -> int:
        """Layers whose feed-forward is a mixture of experts."""
        return self.num_layers - self.num_dense_layers if self.num_experts else 0

    @property
    def leading_dense_layers(self) -> int:
        """Dense layers before the first with experts; 0 where all layers are of one kind."""
        return self.num_dense_layers if self.num_moe_layers else 0

    @property
    def num_params(self) -> int:
        """All weights (biases and norms, below 0.1 %, are left out)."""
        return self.embedding_params + self._layer_params + self.routed_params

    @property
    def active_params(self) -> int:
        """Weights that multiply one token: the head, but not the input embedding's lookup."""
        expert = self._mlp_params(self.expert_intermediate_size) * self.experts_per_token
        head = self.vocab_size * self.hidden_size
        return head + self._layer_params + self.num_moe_layers * expert

    def indivisible(self, tensor: int) -> str:
        """Return why this many tensor-parallel ranks cannot share the model, empty where they can.

        Each rank has whole attention heads, whole heads of keys and values (or a copy of one, where
        there are more ranks than heads; latent attention is copied), and equal parts of the dense
        and shared feed-forward and of the vocabulary, as vLLM and SGLang require. Routed experts
        may be distributed whole, so their width does not matter.
        """
        latent = bool(self.kv_latent_size)
        kv_heads = tensor if latent else self.num_kv_heads
        dense = self.num_moe_layers < self.num_layers
        vocab = -(-self.vocab_size // _VOCAB_BLOCK) * _VOCAB_BLOCK
        for what, whole, divisor in (
                (f"{self.num_heads} attention heads", self.num_heads, tensor),
                (f"{kv_heads} heads of keys and values", max(kv_heads, tensor),
                 min(kv_heads, tensor)),
                (f"feed-forward of {self.intermediate_size}", self.intermediate_size * dense,
                 tensor),
                (f"shared experts of {self.shared_intermediate_size}",
                 self.shared_intermediate_size, tensor),
                (f"vocabulary of {vocab}", vocab, tensor)):
            if whole % divisor:
                return f"{tensor} ranks do not divide the {what} of {self.name}"
        return ""

    @property
    def routed_params(self) -> int:
        """Weights of all routed experts."""
        return (self.num_moe_layers * self.num_experts
                * self._mlp_params(self.expert_intermediate_size))

    def weight_bytes(self, precision: str) -> int:
        """Return the bytes of all weights. Below 16 bits the embeddings stay at 16."""
        width = BYTES_PER_VALUE[precision]
        body = self.num_params - self.embedding_params
        return round(body * width + self.embedding_params * max(width, 2.0))

    @property
    def cached_layers(self) -> int:
        """Layers with a KV cache."""
        return self.kv_layers or self.num_layers

    def _kv_bytes_per_layer(self, precision: str) -> float:
        values = self.kv_latent_size or 2 * self.num_kv_heads * self.head_dim
        return values * BYTES_PER_VALUE[precision]

    def kv_bytes_per_token(self, precision: str) -> int:
        """Return the bytes of one token in the KV cache over all layers that keep every token."""
        layers = self.cached_layers - self.window_layers
        index = INDEX_KEY_BYTES if self.sparse_tokens else 0
        return round(layers * (self._kv_bytes_per_layer(precision) + index))

    def window_bytes_per_seq(self, precision: str) -> float:
        """Return the bytes of a sequence's keys and values in the layers with a window."""
        return self.window_layers * self.window_tokens * self._kv_bytes_per_layer(precision)

    def sparse_bytes_per_seq(self, precision: str) -> float:
        """Return the bytes that a decode reads of the tokens that an indexer selects."""
        return self.cached_layers * self.sparse_tokens * self._kv_bytes_per_layer(precision)
