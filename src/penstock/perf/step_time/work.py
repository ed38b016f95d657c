"""Operations and bytes of one step, and their time at the vendor's peaks."""

from dataclasses import dataclass
from typing import NamedTuple

from penstock.core.hardware import Accelerator, Parallelism
from penstock.core.model import BYTES_PER_VALUE, INDEX_KEY_BYTES, ModelSpec
from penstock.core.step import StepFeatures
from penstock.core.units import ceil_div
from penstock.perf.memory import kv_tensor_share, tensor_share

_ACTIVATION_BYTES = 2


class MatrixWork(NamedTuple):
    """Matrices of one purpose over all layers: ``calls`` a step, bytes read a step, and operations
    per token."""

    name: str
    calls: int
    num_bytes: float
    flops: float


@dataclass(frozen=True, slots=True)
class StepWork:
    """Work of one accelerator of each stage per step: operations and bytes, summed over stages.

    ``*_flops`` are per token (``body_flops`` without routed experts), ``pair_flops`` per (query,
    key) pair and ``decode_pair_flops`` per context token of a decode; ``expert_bytes`` per distinct
    expert, ``context_bytes`` per context token, ``state_bytes`` per decode: states that linear
    attention reads and writes, keys and values of windows or of selected tokens. A decode with
    fewer tokens than ``fixed_tokens`` reads less than ``state_bytes``.

    ``weight_bytes`` and ``body_flops`` are those of ``matrices``, of the head (``head_bytes``) and
    of attention within windows (``window_flops``). ``linear_state_bytes`` are the states of linear
    attention in ``state_bytes``. ``elementwise_bytes`` per token are no part of the bound: fused
    kernels move less.
    """

    weight_bytes: float
    expert_bytes: float
    num_experts: int
    idle_expert_share: float
    body_flops: float
    expert_flops: float
    head_flops: float
    pair_flops: float
    decode_pair_flops: float
    context_bytes: float
    state_bytes: float = 0.0
    fixed_tokens: int = 0
    matrices: tuple[MatrixWork, ...] = ()
    head_bytes: float = 0.0
    window_flops: float = 0.0
    linear_state_bytes: float = 0.0
    elementwise_bytes: float = 0.0

    def touched_bytes(self, tokens: int) -> float:
        """Bytes of the weights that a step of ``tokens`` tokens reads, in expectation."""
        return self.weight_bytes + self.touched_expert_bytes(tokens)

    def touched_expert_bytes(self, tokens: int) -> float:
        """Bytes of the experts' weights that a step of ``tokens`` tokens reads, in expectation."""
        return self.expert_bytes * (self.num_experts * (1.0 - self.idle_expert_share**tokens))

    def full_states(self, decode_seqs: float, context_tokens: float) -> float:
        """Most states of ``state_bytes`` that so many decodes read: short ones read less."""
        if self.fixed_tokens:
            return min(float(decode_seqs), context_tokens / self.fixed_tokens)
        return float(decode_seqs)


@dataclass(frozen=True, slots=True)
class PeakRates:
    """Peaks that the vendor states: operations/s in the body and in 16 bits, bytes/s of memory, and
    one-way bytes/s of the link between accelerators."""

    flops: float
    flops_16bit: float
    bandwidth: float
    link: float


def peak_rates(accelerator: Accelerator, precision: str) -> PeakRates:
    """Peaks of an accelerator with weights in ``precision``. Without links, its PCIe connects."""
    return PeakRates(accelerator.flops(precision), accelerator.flops("bf16"),
                     accelerator.bandwidth_bytes_per_s,
                     accelerator.link_bytes_per_s or accelerator.pcie_bytes_per_s)


def bound_seconds(work: StepWork, peak: PeakRates, features: StepFeatures) -> float:
    """No step can be faster: operations over peak rate, or bytes over peak bandwidth.

    Bytes are the weights touched and the keys and values that decodes read.
    """
    prefill, attention, decodes, context = features
    sampled = decodes + 1 if prefill else decodes
    compute_s = ((work.body_flops + work.expert_flops) * (prefill + decodes) / peak.flops
                 + (work.head_flops * sampled + work.pair_flops * attention
                    + work.decode_pair_flops * context) / peak.flops_16bit)
    num_bytes = (work.touched_bytes(prefill + decodes) + work.context_bytes * context
                 + work.state_bytes * work.full_states(decodes, context))
    return max(compute_s, num_bytes / peak.bandwidth)


def step_work(model: ModelSpec, parallelism: Parallelism, precision: str,
              kv_precision: str) -> StepWork:
    """Operations and bytes per accelerator; the pipeline's stages are summed, not divided.

    With data-parallel attention, an accelerator computes an equal share of the step's tokens and
    reads the context of an equal share of the decodes.
    """
    tensor, data = parallelism.tensor, parallelism.data
    ranks = tensor * data
    width = BYTES_PER_VALUE[precision]
    head_params = model.vocab_size * model.hidden_size
    moe = model.num_moe_layers
    per_expert = moe * (3 if model.gated_mlp else 2) * (model.hidden_size
                                                        * model.expert_intermediate_size)
    routed = per_expert * model.experts_per_token
    body_params = model.active_params - head_params
    layers = model.cached_layers - model.window_layers
    heads = tensor_share(model.num_heads, tensor) * model.num_heads
    value_dim = model.v_head_dim or model.head_dim
    layer_pair_flops = 2.0 * heads * (model.head_dim + value_dim) / data
    pair_flops = layers * layer_pair_flops
    kv_share = kv_tensor_share(model, tensor) / data
    # With a latent cache, decodes attend in the latent space: keys of the whole cached width and
    # values of it without the rotary part.
    latent = model.kv_latent_size
    decode_pair_flops = (2.0 * layers * heads * (2 * latent - model.rope_head_dim) / data
                         if latent else pair_flops)
    experts = model.num_experts if moe else 0
    matrices = tuple(MatrixWork(one.name, one.calls, one.params * width / tensor,
                                2.0 * one.params / ranks) for one in model.layer_matrices)
    head_bytes = head_params * max(width, 2.0)
    window_flops = model.window_layers * model.window_tokens * layer_pair_flops
    linear_state_bytes = 2.0 * model.state_bytes_per_seq / ranks
    return StepWork(
        weight_bytes=((body_params - routed) * width + head_bytes) / tensor,
        expert_bytes=per_expert * width / ranks, num_experts=experts,
        idle_expert_share=1.0 - model.experts_per_token / experts if experts else 1.0,
        body_flops=2.0 * (body_params - routed) / ranks + window_flops,
        expert_flops=2.0 * routed / ranks, head_flops=2.0 * head_params / ranks,
        pair_flops=pair_flops,
        decode_pair_flops=0.0 if model.sparse_tokens else decode_pair_flops,
        context_bytes=kv_share * (layers * INDEX_KEY_BYTES if model.sparse_tokens
                                  else model.kv_bytes_per_token(kv_precision)),
        state_bytes=(linear_state_bytes
                     + kv_share * (model.window_bytes_per_seq(kv_precision)
                                   + model.sparse_bytes_per_seq(kv_precision))),
        fixed_tokens=max(model.window_tokens, model.sparse_tokens), matrices=matrices,
        head_bytes=head_bytes / tensor, window_flops=window_flops,
        linear_state_bytes=linear_state_bytes,
        elementwise_bytes=elementwise_bytes_per_token(model, tensor) / data)


def elementwise_bytes_per_token(model: ModelSpec, tensor: int) -> float:
    """Memory traffic of norms, residual adds, rotary embedding and the activation function."""
    width = model.expert_intermediate_size * model.experts_per_token \
        + model.shared_intermediate_size
    moe = model.num_moe_layers
    mlp = moe * width + (model.num_layers - moe) * model.intermediate_size
    # Values moved per layer: two norms read and write (4 h), two adds (6 h); the activation reads
    # gate and up and writes one (3 f); queries and keys are read and written once. A mixture
    # writes and reads each token once per expert.
    heads = 2 * (ceil_div(model.num_heads, tensor) + ceil_div(model.num_kv_heads, tensor))
    attention = heads * model.head_dim
    spread = 2 * moe * model.experts_per_token * model.hidden_size
    values = model.num_layers * (10 * model.hidden_size + attention) + 3 * mlp / tensor + spread
    return float(values * _ACTIVATION_BYTES)
